package main

import "testing"

// As Parley's other services have it: whoever knows the same ids must give the same answer.
func TestRing(t *testing.T) {
	for text, hash := range map[string]uint32{"": 2872998923, "ann": 2778018533, "Jörg": 1259753448, "user 😀": 1001252126} {
		if got := hash32(text); got != hash {
			t.Errorf("hash32(%q) is %d, not %d", text, got, hash)
		}
	}
	ids := newRing([]string{"p3", "p1", "p2", "p1"})
	for userID, id := range map[string]string{"ann": "p1", "bob": "p3", "Jörg": "p3", "user 😀": "p3", "d:x": "p2", "eve": "p3"} {
		if got := ids.of(userID); got != id {
			t.Errorf("%q falls to %q, not %q", userID, got, id)
		}
	}
	if got := newRing(nil).of("ann"); got != "" {
		t.Errorf("an empty ring has %q", got)
	}
}

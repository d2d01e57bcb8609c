package main

import (
	"slices"
	"unicode/utf16"
)

// hash32 is the hash by which all of Parley spreads things: FNV-1a over UTF-16 units, then MurmurHash3's finalizer.
func hash32(text string) uint32 {
	hash := uint32(0x811c9dc5)
	for _, unit := range utf16.Encode([]rune(text)) {
		hash = (hash ^ uint32(unit)) * 0x01000193
	}
	return mixed(hash)
}

func mixed(hash uint32) uint32 {
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	return hash ^ hash>>16
}

// A ring says which of several instances a user falls to, by rendezvous hashing.
type ring struct {
	ids    []string // in order, each once
	hashes []uint32
}

func newRing(ids []string) ring {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	hashes := make([]uint32, len(sorted))
	for at, id := range sorted {
		hashes[at] = hash32(id)
	}
	return ring{sorted, hashes}
}

// ringOf spreads users over those that are not going away or, where all are, over everybody.
func ringOf(present []instance) ring {
	var staying, all []string
	for _, one := range present {
		all = append(all, one.ID)
		if !one.Draining {
			staying = append(staying, one.ID)
		}
	}
	if len(staying) == 0 {
		staying = all
	}
	return newRing(staying)
}

// of is "" where the ring has nobody.
func (r ring) of(userID string) string {
	if len(r.ids) == 0 {
		return ""
	}
	key := hash32(userID)
	best, bestScore := 0, int64(-1)
	for at, hash := range r.hashes {
		if score := int64(mixed(hash ^ key)); score > bestScore {
			best, bestScore = at, score
		}
	}
	return r.ids[best]
}

// A share is which users fall to this instance.
type share struct {
	ring ring
	id   string
}

// An instance that the ring has not has nobody. Where the ring has none at all, whoever is asked has everybody.
func (s *share) has(userID string) bool {
	return len(s.ring.ids) == 0 || s.ring.of(userID) == s.id
}

func (s *share) is(other *share) bool {
	return s.id == other.id && slices.Equal(s.ring.ids, other.ring.ids)
}

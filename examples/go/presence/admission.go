package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	// Of two that refuse one another either may be the stranger.
	refusalsMin = 2
	askedMax    = 8
	connectTime = 1_500 * time.Millisecond
	// Shorter than a handshake may take, whose end would be a refusal.
	answerTime = handshakeTime - time.Second
)

type verdict int

const (
	unknown verdict = iota // nobody there, or nobody who said anything
	letIn
	refused
)

// An admission asks others of the cluster whether they and this process let one another in: a share of the users falls to whoever is announced, so nobody
// is whom no other would talk to.
type admission struct {
	links        *links
	certificates *certificates // nil: no TLS
}

// ask answers letIn where one lets it in, and refused, with a sentence that says what to do, where none does and two say so.
func (a *admission) ask(ctx context.Context, others []instance) (verdict, string) {
	if faults := a.certificates.problems(); len(faults) > 0 {
		return refused, "it is not announced, as no other process would let it in: " + faults[0]
	}
	rand.Shuffle(len(others), func(one, other int) { others[one], others[other] = others[other], others[one] })
	others = others[:min(len(others), askedMax)]
	type answer struct {
		verdict
		reason string
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	answers := make(chan answer, len(others))
	for _, other := range others {
		go func() {
			said, reason := a.probe(ctx, other.Address)
			answers <- answer{said, reason}
		}()
	}
	refusals, last := 0, ""
	for range others {
		switch one := <-answers; one.verdict {
		case letIn:
			return letIn, ""
		case refused:
			refusals++
			last = one.reason
		}
	}
	if refusals < refusalsMin {
		return unknown, ""
	}
	return refused, fmt.Sprintf("it is not announced, as no other process lets it in, like the one at %s; "+
		"PARLEY_TLS_CERT_FILE, PARLEY_TLS_KEY_FILE and PARLEY_TLS_CA_FILE must be of the same authority for all processes, or set for none", last)
}

// probe: whoever takes a connection and ends it, or the call on it, without an answer to the call refuses.
func (a *admission) probe(ctx context.Context, address string) (verdict, string) {
	dialing, done := context.WithTimeout(ctx, connectTime)
	defer done()
	socket, err := (&net.Dialer{}).DialContext(dialing, "tcp", address)
	if err != nil {
		return unknown, ""
	}
	socket.Close()
	channel, err := a.links.connect(address)
	if err != nil {
		return unknown, ""
	}
	defer channel.Close()
	asking, end := context.WithTimeout(ctx, answerTime)
	defer end()
	_, err = healthv1.NewHealthClient(channel).Check(asking, &healthv1.HealthCheckRequest{})
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return unknown, ""
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled:
		if ctx.Err() != nil {
			return unknown, ""
		}
		return refused, fmt.Sprintf("%s: %s", address, status.Convert(err).Message())
	}
	return letIn, ""
}

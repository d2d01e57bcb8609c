package main

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

var dialOptions = []grpc.DialOption{
	// A peer whose host vanished says nothing: it is asked for a sign of life.
	grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 3 * time.Second,
	}),
}

// links are the ways to the others, encrypted where the mesh is.
type links struct{ options []grpc.DialOption }

func newLinks(secured credentials.TransportCredentials) *links {
	return &links{append(dialOptions[:len(dialOptions):len(dialOptions)], grpc.WithTransportCredentials(secured))}
}

// connect is the way to one instance.
func (l *links) connect(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, l.options...)
}

// Any instance of a service, whichever is there: a channel whose addresses are those of the directory.
type anyOf struct {
	channel  *grpc.ClientConn
	resolver *manual.Resolver
}

func (l *links) connectAny(service string) (*anyOf, error) {
	r := manual.NewBuilderWithScheme(service)
	r.InitialState(resolver.State{})
	options := append(l.options[:len(l.options):len(l.options)],
		grpc.WithResolvers(r), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	channel, err := grpc.NewClient(service+":///any", options...)
	if err != nil {
		return nil, err
	}
	channel.Connect()
	return &anyOf{channel, r}, nil
}

// are says who is there now. While nobody is, the last ones stay: they may be back before the directory knows.
func (a *anyOf) are(present []instance) {
	if len(present) == 0 {
		return
	}
	var state resolver.State
	for _, one := range present {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: one.Address})
	}
	a.resolver.UpdateState(state)
}

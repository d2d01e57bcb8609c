package main

import (
	"context"
	"log/slog"
	"time"

	storagev1 "parley.example/presence/gen/parley/storage/v1"
)

// How long last-seen times gather before the first is carried, and how many are carried at once.
const (
	gather   = 200 * time.Millisecond
	batchMax = 1_000
)

// A keeper carries last-seen times to storage: a batch a while, again until they are kept.
type keeper struct {
	p      *presence
	woken  chan struct{}
	closed chan struct{}
}

func newKeeper(p *presence) *keeper {
	return &keeper{p: p, woken: make(chan struct{}, 1), closed: make(chan struct{})}
}

// wake: there may be something to keep.
func (k *keeper) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.closed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.woken:
		}
		wait(ctx, gather)
		for backoff := 200 * time.Millisecond; ctx.Err() == nil; backoff = min(2*backoff, 5*time.Second) {
			err := k.putAll(ctx, 5*time.Second)
			if err == nil {
				break
			}
			k.p.log.Warn("last-seen times are not kept yet", slog.Any("reason", err))
			wait(ctx, jittered(backoff))
		}
	}
}

// putAll keeps what there is; the bound is that of a call.
func (k *keeper) putAll(ctx context.Context, bound time.Duration) error {
	for {
		var some []seen
		k.p.locked(func() { some = k.p.roster.oldest(batchMax) })
		if len(some) == 0 {
			return nil
		}
		request := &storagev1.PutLastSeenRequest{}
		for _, one := range some {
			request.Seen = append(request.Seen, &storagev1.LastSeen{UserId: one.userID, TimeMs: one.timeMs})
		}
		bounded, done := context.WithTimeout(ctx, bound)
		_, err := k.p.storage.PutLastSeen(bounded, request)
		done()
		if err != nil {
			return err
		}
		k.p.locked(func() { k.p.roster.saved(some) })
	}
}

// close tries once more to keep what is left, when run has ended.
func (k *keeper) close() {
	<-k.closed
	bounded, done := context.WithTimeout(context.Background(), 3*time.Second)
	defer done()
	if err := k.putAll(bounded, 3*time.Second); err != nil {
		k.p.log.Warn("last-seen times are lost", slog.Any("reason", err))
	}
}

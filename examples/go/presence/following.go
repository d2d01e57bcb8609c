package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	sessionv1 "parley.example/presence/gen/parley/session/v1"
)

// Changes of the share that may come before session caught up with one; then nobody is known until it has.
const sharesMax = 16

// A followed is a session instance that tells who is online there.
type followed struct {
	instance instance
	channel  *grpc.ClientConn
	source   *source
	stop     context.CancelFunc
	listed   *share // the share whose users it told completely
}

// following keeps a stream to each session instance, about the users who fall to this instance. It keeps the roster's time. Whoever calls it
// holds the lock of the presence that it is part of.
type following struct {
	p         *presence
	followed  map[string]*followed
	sessions  ring // where users connect now, as far as is known here
	presences []instance
	share     *share
	// The present share, after those since whose beginning not all was told: whoever was in all of them is known. None: nobody is.
	shares []*share
	// Until then gateways announce elsewhere what an instance had that went away all at once.
	announced      time.Time
	announcedTimer *time.Timer
	graceTimer     *time.Timer
	closed         bool
}

// knows is whether it is known here of each of these whether they are online.
func (f *following) knows(userIDs []string) bool {
	if len(f.shares) == 0 {
		return false
	}
	for _, userID := range userIDs {
		for _, one := range f.shares {
			if !one.has(userID) {
				return false
			}
		}
	}
	return true
}

func (f *following) problems() []string {
	if len(f.shares) == 0 {
		return []string{"presence does not know yet who is online"}
	}
	for _, one := range f.followed {
		if one.source.heard {
			return nil
		}
	}
	return []string{"presence is not told by session who is online"}
}

// isLast is whether nobody else tells of the users of this instance once it is gone.
func (f *following) isLast(id string) bool {
	for _, one := range f.presences {
		if one.ID != id && !one.Draining {
			return false
		}
	}
	return true
}

// shareAnew: the users of this instance are others now. Session is asked about them, and the others are let go.
func (f *following) shareAnew(presences []instance, id string) {
	f.presences = presences
	now := &share{ringOf(presences), id}
	if f.closed || f.share != nil && now.is(f.share) {
		return
	}
	f.share = now
	if len(f.shares) > 0 {
		f.shares = append(f.shares, now)
	}
	if len(f.shares) > sharesMax {
		f.shares = nil
	}
	f.p.roster.keepOnly(now.has)
	for _, one := range f.followed {
		one.stop()
		f.follow(one)
	}
	f.p.learned()
}

// meet takes the present session instances. While there is none at all nobody can come elsewhere: everybody stays until one is.
func (f *following) meet(present []instance) {
	if f.closed || len(present) == 0 {
		return
	}
	there := map[string]bool{}
	for _, one := range present {
		there[one.ID] = true
	}
	for id, one := range f.followed {
		if !there[id] {
			f.lose(id, one)
		}
	}
	f.sessions = ringOf(present)
	for _, session := range present {
		if known := f.followed[session.ID]; known != nil {
			known.instance = session
			continue
		}
		channel, err := f.p.links.connect(session.Address)
		if err != nil {
			f.p.log.Warn("no address to connect to", "session", session.ID, "reason", err)
			continue
		}
		one := &followed{instance: session, channel: channel, source: newSource()}
		f.followed[session.ID] = one
		f.follow(one)
	}
	f.p.roster.release(f.mayEnd)
	f.checkKnown()
	f.settle()
}

func (f *following) lose(id string, one *followed) {
	one.stop()
	one.channel.Close()
	delete(f.followed, id)
	now := time.Now()
	if !one.instance.Draining {
		f.announced = now.Add(f.p.roster.grace)
	}
	f.p.roster.gone(one.source, now, func(p *person) bool { return f.sessions.of(p.userID) == id })
}

// follow begins to listen. What is asked for is known once this instance knows its share: until then shareAnew is waited for.
func (f *following) follow(one *followed) {
	if f.share == nil {
		one.stop = func() {}
		return
	}
	ctx, stop := context.WithCancel(f.p.ctx)
	one.stop = stop
	go f.keep(ctx, one, f.share)
}

// keep listens again and again, until the context ends. Nobody goes offline because a stream breaks.
func (f *following) keep(ctx context.Context, one *followed, about *share) {
	for backoff := 50 * time.Millisecond; ctx.Err() == nil; backoff = min(2*backoff, time.Second) {
		began := time.Now()
		err := f.listen(ctx, one, about)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 5*time.Second {
			backoff = 50 * time.Millisecond
		}
		streamFailures.WithLabelValues(onlineStream).Inc()
		f.p.log.Warn("who is online is not told, trying again", slog.String("session", one.instance.ID), slog.Any("reason", err))
		f.p.locked(func() {
			// Once it was stopped another one may be telling already.
			if ctx.Err() == nil {
				one.source.heard = false
			}
		})
		wait(ctx, jittered(backoff))
	}
}

func (f *following) listen(ctx context.Context, one *followed, about *share) error {
	f.p.locked(func() {
		if ctx.Err() == nil {
			f.p.roster.beginList(one.source)
		}
	})
	// Without an end of its own the call would stay when only this try is over.
	ctx, end := context.WithCancel(ctx)
	defer end()
	asked := &sessionv1.WatchOnlineRequest{PresenceIds: about.ring.ids, PresenceId: about.id}
	stream, err := sessionv1.NewSessionServiceClient(one.channel).WatchOnline(ctx, asked)
	if err != nil {
		return err
	}
	streamsUp.WithLabelValues(onlineStream).Inc()
	defer streamsUp.WithLabelValues(onlineStream).Dec()
	for {
		told, err := stream.Recv()
		if err != nil {
			return err
		}
		f.p.locked(func() {
			if ctx.Err() == nil {
				f.take(one, about, told)
			}
		})
	}
}

func (f *following) take(one *followed, about *share, told *sessionv1.WatchOnlineResponse) {
	now := time.Now()
	for _, userID := range told.OnlineUserIds {
		f.p.roster.comes(one.source, userID)
	}
	for _, userID := range told.OfflineUserIds {
		f.p.roster.goes(one.source, userID, now)
	}
	if told.InitialComplete {
		f.p.roster.endList(one.source, now)
		if told.LostMsAgo > 0 {
			// One that went away before anything was followed here.
			until := now.Add(f.p.roster.grace - time.Duration(told.LostMsAgo)*time.Millisecond)
			if until.After(f.announced) {
				f.announced = until
			}
		}
		one.listed = about
		f.p.roster.release(f.mayEnd)
		f.checkKnown()
	}
	f.settle()
}

// checkKnown: everybody of the share is known when all have told all, also of those whose session instance went away just now.
func (f *following) checkKnown() {
	if len(f.shares) == 1 && f.shares[0] == f.share || len(f.followed) == 0 {
		return
	}
	for _, one := range f.followed {
		if one.listed != f.share {
			return
		}
	}
	if left := time.Until(f.announced); left > 0 {
		if f.announcedTimer == nil {
			f.announcedTimer = time.AfterFunc(left, func() {
				f.p.locked(func() {
					f.announcedTimer = nil
					f.checkKnown()
				})
			})
		}
		return
	}
	f.shares = []*share{f.share}
	f.p.learned()
}

// settle, after every change of the roster: what falls due later is armed.
func (f *following) settle() {
	f.p.keeper.wake()
	due, some := f.p.roster.next()
	if !some || f.graceTimer != nil || f.closed {
		return
	}
	f.graceTimer = time.AfterFunc(time.Until(due), func() {
		f.p.locked(func() {
			f.graceTimer = nil
			f.p.roster.expire(time.Now(), f.mayEnd)
			f.settle()
		})
	})
}

// mayEnd: where the user left, and where the user would be now, nobody may be back unsaid.
func (f *following) mayEnd(p *person) bool {
	there := f.followed[f.sessions.of(p.userID)]
	return (p.leftBy == nil || p.leftBy.heard) && there != nil && there.source.heard
}

func (f *following) close() {
	f.closed = true
	for _, one := range f.followed {
		one.stop()
		one.channel.Close()
	}
	for _, timer := range []*time.Timer{f.announcedTimer, f.graceTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// jittered is between half of the pause and all of it.
func jittered(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2+1)
}

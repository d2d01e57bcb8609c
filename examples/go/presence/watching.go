package main

import (
	"context"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	presencev1 "parley.example/presence/gen/parley/presence/v1"
	storagev1 "parley.example/presence/gen/parley/storage/v1"
	parleyv1 "parley.example/presence/gen/parley/v1"
)

const (
	askingMax  = 64              // sets of one gateway that storage is asked about at once; the next request is read when there is room
	heldMax    = 1_024           // sets of one gateway that wait until it is known how their users are
	holdFor    = 5 * time.Second // how long they wait: by then this instance and the gateway know of the same instances, mostly
	askTries   = 8
	askTimeout = 5 * time.Second
	weightMax  = 10_000 // presences and connection numbers in one message, about
)

// told is what waits for the gateway: somebody changed, or a set is answered; how things are is looked up when it is sent.
type told struct {
	person     *person
	connection uint32
	people     []*person
	err        *status.Status
}

// A line is a connection's sets, answered in their order.
type line struct {
	watch *watch
	done  chan struct{} // closed when its sets so far are answered
	held  []*held
}

// A held set waits until it is known here how its users are.
type held struct {
	line    *line
	userIDs []string
	decided bool
	known   chan bool
}

// A watchStream is one gateway's watches: whom its connections may watch storage says, how those are the roster, and this keeps both in order.
// Its fields are guarded by the lock of the presence that it is part of.
type watchStream struct {
	p         *presence
	ctx       context.Context
	stop      context.CancelFunc
	outbox    []told
	inOutbox  map[*person]bool // one who comes and goes in a while is told once
	filled    chan struct{}
	lines     map[uint32]*line
	held      map[*held]struct{}
	holdTimer *time.Timer
	holdOver  bool // sets were held as long as may be, and nothing was learned since
	asking    int
	room      chan struct{}
	ended     bool
	err       error
}

func newWatchStream(p *presence, ctx context.Context) *watchStream {
	ctx, stop := context.WithCancel(ctx)
	return &watchStream{
		p: p, ctx: ctx, stop: stop, inOutbox: map[*person]bool{}, filled: make(chan struct{}, 1),
		lines: map[uint32]*line{}, held: map[*held]struct{}{}, room: make(chan struct{}, 1),
	}
}

// read takes the gateway's requests to their end.
func (s *watchStream) read(stream presencev1.PresenceService_WatchServer) {
	for {
		request, err := stream.Recv()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			s.p.locked(func() { s.end(err) })
			return
		}
		for _, set := range request.Sets {
			if !s.takes(set) {
				return
			}
		}
		s.p.locked(func() {
			for _, connection := range request.Ended {
				s.unwatch(connection)
			}
		})
	}
}

// takes waits for room; false: the stream has ended.
func (s *watchStream) takes(set *presencev1.WatchSet) bool {
	for {
		taken, ended := false, false
		s.p.locked(func() {
			if ended = s.ended; !ended && s.asking < askingMax && len(s.held) < heldMax {
				s.take(set)
				taken = true
			}
		})
		if taken || ended {
			return taken
		}
		select {
		case <-s.room:
		case <-s.ctx.Done():
		}
	}
}

// write sends what waits, as it is then, until the stream ends, and answers with why.
func (s *watchStream) write(stream presencev1.PresenceService_WatchServer) error {
	for {
		select {
		case <-s.filled:
		case <-s.ctx.Done():
		}
		var responses []*presencev1.WatchResponse
		var err error
		ended := false
		s.p.locked(func() {
			// The connection may have gone first.
			if s.ctx.Err() != nil {
				s.end(nil)
			}
			if ended, err = s.ended, s.err; !ended {
				responses = s.responses()
			}
		})
		if ended {
			return err
		}
		for _, response := range responses {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
	}
}

func (s *watchStream) responses() (all []*presencev1.WatchResponse) {
	response, weight := &presencev1.WatchResponse{}, 0
	for _, one := range s.outbox {
		if weight >= weightMax {
			all = append(all, response)
			response, weight = &presencev1.WatchResponse{}, 0
		}
		if one.person == nil {
			response.Snapshots = append(response.Snapshots, snapshotOf(one))
			weight += 1 + len(one.people)
		} else if change := s.change(one.person); change != nil {
			response.Changes = append(response.Changes, change)
			weight += 1 + len(change.Connections)
		}
	}
	s.outbox = nil
	clear(s.inOutbox)
	if weight > 0 {
		all = append(all, response)
	}
	return all
}

func (s *watchStream) change(p *person) *presencev1.Change {
	var connections []uint32
	for w := range p.watches {
		if w.watcher == s && w.answered {
			connections = append(connections, w.connection)
		}
	}
	if len(connections) == 0 {
		return nil
	}
	return &presencev1.Change{Connections: connections, Presence: presenceOf(p)}
}

// end ends the watches and the stream. Doing it again does nothing.
func (s *watchStream) end(err error) {
	if s.ended {
		return
	}
	s.ended, s.err = true, err
	for connection := range s.lines {
		s.unwatch(connection)
	}
	s.outbox = nil
	if s.holdTimer != nil {
		s.holdTimer.Stop()
	}
	for h := range s.held {
		s.decide(h, false)
	}
	s.stop()
}

// learned: it may be known now how those are whom it was not known of.
func (s *watchStream) learned() {
	s.holdOver = false
	for h := range s.held {
		if !h.decided && s.p.following.knows(h.userIDs) {
			s.decide(h, true)
		}
	}
}

func (s *watchStream) moved() {
	s.end(status.Error(codes.Unavailable, "another instance tells of some of the users now: set the watches again"))
}

func (s *watchStream) changed(p *person) {
	if !s.inOutbox[p] {
		s.inOutbox[p] = true
		s.tell(told{person: p})
	}
}

func (s *watchStream) tell(one told) {
	if s.ended {
		return
	}
	if len(s.outbox) >= s.p.settings.outboxMax {
		s.end(status.Error(codes.ResourceExhausted, "the gateway does not keep up with presence: set the watches again"))
		return
	}
	s.outbox = append(s.outbox, one)
	nudge(s.filled)
}

// take: the sets of a connection are answered in their order, those of different connections as storage answers.
func (s *watchStream) take(set *presencev1.WatchSet) {
	l := s.lines[set.Connection]
	if l == nil {
		l = &line{watch: &watch{watcher: s, connection: set.Connection}, done: make(chan struct{})}
		close(l.done)
		s.lines[set.Connection] = l
	}
	before, done := l.done, make(chan struct{})
	l.done = done
	var known chan bool
	if s.p.following.knows(set.UserIds) {
		s.giveUp(l)
		s.asking++
	} else {
		known = s.hold(l, set.UserIds)
	}
	go func() {
		defer close(done)
		<-before
		if known != nil && !<-known {
			s.p.locked(func() { s.refuse(l.watch, notKnown) })
			return
		}
		s.answer(l.watch, set)
		s.p.locked(func() {
			s.asking--
			nudge(s.room)
		})
	}()
}

// hold answers with whether it became known in time.
func (s *watchStream) hold(l *line, userIDs []string) chan bool {
	h := &held{line: l, userIDs: userIDs, known: make(chan bool, 1)}
	if s.holdOver {
		h.known <- false
		return h.known
	}
	if s.holdTimer == nil {
		s.holdTimer = time.AfterFunc(holdFor, func() {
			s.p.locked(func() {
				s.holdTimer = nil
				s.holdOver = true
				for h := range s.held {
					s.decide(h, false)
				}
			})
		})
	}
	s.held[h] = struct{}{}
	l.held = append(l.held, h)
	return h.known
}

// decide: sets before it are not what the connection wants any more.
func (s *watchStream) decide(h *held, known bool) {
	at := slices.Index(h.line.held, h)
	before := slices.Clone(h.line.held[:at])
	h.line.held = slices.Delete(h.line.held, 0, at+1)
	for _, one := range before {
		s.settle(one, false)
	}
	if known {
		s.asking++
	}
	s.settle(h, known)
}

func (s *watchStream) settle(h *held, known bool) {
	if h.decided {
		return
	}
	h.decided = true
	delete(s.held, h)
	nudge(s.room)
	h.known <- known
}

func (s *watchStream) giveUp(l *line) {
	for _, h := range l.held {
		s.settle(h, false)
	}
	l.held = nil
}

// answer asks storage without the lock.
func (s *watchStream) answer(w *watch, set *presencev1.WatchSet) {
	userIDs, err := s.acquainted(set)
	var unknown []string
	s.p.locked(func() {
		if err == nil && !s.p.following.knows(userIDs) {
			err = notKnown.Err()
		}
		// Registered first, looked up second: what changes in between is in the snapshot.
		if err == nil && !w.ended {
			unknown = s.p.roster.set(w, userIDs)
		}
	})
	if err == nil && len(unknown) > 0 {
		err = s.learn(unknown)
	}
	s.p.locked(func() {
		if err != nil {
			s.refuse(w, status.Convert(err))
		} else {
			s.tellAnswer(w, nil)
		}
	})
}

// refuse: the connection watches nobody.
func (s *watchStream) refuse(w *watch, why *status.Status) {
	if !w.ended {
		s.p.roster.set(w, nil)
		s.tellAnswer(w, why)
	}
}

func (s *watchStream) tellAnswer(w *watch, why *status.Status) {
	if !w.ended {
		w.answered = true
		s.tell(told{connection: w.connection, people: w.people, err: why})
	}
}

func (s *watchStream) acquainted(set *presencev1.WatchSet) ([]string, error) {
	most := s.p.settings.watchMax
	if set.UserId == "" {
		return nil, status.Error(codes.InvalidArgument, "user_id is empty: say who watches")
	}
	if len(set.UserIds) > most {
		return nil, status.Errorf(codes.InvalidArgument, "%d users to watch are too many: at most %d", len(set.UserIds), most)
	}
	if len(set.UserIds) == 0 {
		return nil, nil
	}
	var answer *storagev1.FilterAcquaintedResponse
	err := asked(s.ctx, func(ctx context.Context) (err error) {
		request := &storagev1.FilterAcquaintedRequest{UserId: set.UserId, OtherUserIds: set.UserIds}
		answer, err = s.p.storage.FilterAcquainted(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(set.UserIds), func(userID string) bool {
		return !slices.Contains(answer.UserIds, userID)
	}), nil
}

// learn asks when users were last seen.
func (s *watchStream) learn(userIDs []string) error {
	return asked(s.ctx, func(ctx context.Context) error {
		answer, err := s.p.storage.GetLastSeen(ctx, &storagev1.GetLastSeenRequest{UserIds: userIDs})
		s.p.locked(func() {
			for _, one := range answer.GetSeen() {
				s.p.roster.learn(one.UserId, one.TimeMs)
			}
		})
		return err
	})
}

func (s *watchStream) unwatch(connection uint32) {
	l := s.lines[connection]
	if l == nil {
		return
	}
	delete(s.lines, connection)
	s.giveUp(l)
	s.p.roster.set(l.watch, nil)
	l.watch.ended = true
}

// Whoever asks here about them knows of other instances than this one, for a moment.
var notKnown = status.New(codes.Unavailable, "it is not known here whether these users are online")

func snapshotOf(one told) *presencev1.Snapshot {
	snapshot := &presencev1.Snapshot{Connection: one.connection, Presences: make([]*parleyv1.Presence, 0, len(one.people))}
	for _, p := range one.people {
		snapshot.Presences = append(snapshot.Presences, presenceOf(p))
	}
	if one.err != nil {
		snapshot.Code, snapshot.Message = uint32(one.err.Code()), one.err.Message()
	}
	return snapshot
}

// asked asks storage again where trying again makes sense, a bounded number of times.
func asked(ctx context.Context, ask func(context.Context) error) error {
	backoff := 100 * time.Millisecond
	for left := askTries - 1; ; left-- {
		bounded, done := context.WithTimeout(ctx, askTimeout)
		err := ask(bounded)
		done()
		if err == nil || left == 0 || ctx.Err() != nil || !passing(status.Code(err)) {
			return err
		}
		wait(ctx, jittered(backoff))
		backoff = min(2*backoff, 5*time.Second)
	}
}

func passing(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// nudge says that there is something, to whoever waits or comes to wait.
func nudge(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

package main

import (
	"container/list"
	"time"

	parleyv1 "parley.example/presence/gen/parley/v1"
)

type state int

const (
	offline state = iota
	online
	leaving // online for all others: the last session ended, the grace is running
)

// A person is online, watched, or has a last-seen time that is not kept yet; nobody else has a place in memory.
type person struct {
	userID   string
	state    state
	sources  int     // by how many of them online
	leftBy   *source // who told the end of the last session, while leaving
	deadline time.Time
	leaving  *list.Element
	lastSeen int64 // milliseconds; 0: not known, or never
	watches  map[*watch]struct{}
}

// A source is what one session instance told.
type source struct {
	online   map[*person]struct{}
	unlisted map[*person]struct{} // while it tells everybody anew: those of before whom it has not told yet
	heard    bool                 // it tells of every change now; while not, what it told holds
}

func newSource() *source {
	return &source{online: map[*person]struct{}{}, unlisted: map[*person]struct{}{}}
}

// A watcher is told of everybody whom one of its connections watches and who came or went.
type watcher interface {
	changed(*person)
	moved() // others tell of some whom it watches from now on
}

// A watch is whom one connection watches.
type watch struct {
	watcher    watcher
	connection uint32
	people     []*person
	answered   bool // false until the present set's snapshot is taken: changes before that are part of it
	ended      bool
}

type seen struct {
	userID string
	timeMs int64
}

// A roster knows who is online, until when the others have grace, when they were last seen, and who watches them. Whoever calls it holds the lock.
type roster struct {
	grace      time.Duration
	unsavedMax int
	people     map[string]*person
	leavers    *list.List // of *person; all graces are equally long, so the order of coming is the order of ending
	held       map[*person]struct{}
	unsaved    map[string]*list.Element
	unsavedOld *list.List // of seen, the oldest first
}

func newRoster(grace time.Duration, unsavedMax int) *roster {
	return &roster{
		grace: grace, unsavedMax: unsavedMax, people: map[string]*person{}, leavers: list.New(),
		held: map[*person]struct{}{}, unsaved: map[string]*list.Element{}, unsavedOld: list.New(),
	}
}

// comes: the user has a session there.
func (r *roster) comes(from *source, userID string) {
	p := r.person(userID)
	_, listed := from.online[p]
	_, before := from.unlisted[p]
	from.online[p] = struct{}{}
	delete(from.unlisted, p)
	if !listed && !before {
		p.sources++
	}
	was := p.state
	if was == online {
		return
	}
	r.stay(p)
	p.state = online
	if was == offline {
		r.tell(p)
	}
}

// goes: the user's last session there ended just now. One who came and went unseen has the grace, too.
func (r *roster) goes(from *source, userID string, now time.Time) {
	p := r.person(userID)
	if remove(from.online, p) || remove(from.unlisted, p) {
		p.sources--
	}
	if p.sources == 0 {
		r.leave(p, from, now)
	}
}

// beginList: everybody online there is told anew, because nothing was heard for a while.
func (r *roster) beginList(from *source) {
	from.heard = false
	for p := range from.online {
		from.unlisted[p] = struct{}{}
	}
	from.online = map[*person]struct{}{}
}

// endList: those who were online and are not in the list left some time since; their grace begins.
func (r *roster) endList(from *source, now time.Time) {
	missing := from.unlisted
	from.unlisted = map[*person]struct{}{}
	r.leaveAll(missing, from, now)
	from.heard = true
}

// gone: the instance is. Whoever was online there has the grace to come elsewhere; where it was not heard at its end, so has whoever was leaving
// and may have been back there.
func (r *roster) gone(from *source, now time.Time, mayBeThere func(*person) bool) {
	if !from.heard {
		var again []*person
		for at := r.leavers.Front(); at != nil; at = at.Next() {
			again = append(again, at.Value.(*person))
		}
		for p := range r.held {
			again = append(again, p)
		}
		for _, p := range again {
			if p.leftBy == from || mayBeThere(p) {
				r.begin(p, from, now)
			}
		}
	}
	r.leaveAll(from.online, from, now)
	r.leaveAll(from.unlisted, from, now)
	from.online, from.unlisted = map[*person]struct{}{}, map[*person]struct{}{}
	from.heard = true
}

// keepOnly forgets everybody else without a word: others tell of them now.
func (r *roster) keepOnly(isOurs func(string) bool) {
	watchers := map[watcher]struct{}{}
	for userID, p := range r.people {
		if isOurs(userID) {
			continue
		}
		for w := range p.watches {
			watchers[w.watcher] = struct{}{}
		}
		r.stay(p)
		p.state = offline
		p.sources = 0
		delete(r.people, userID)
	}
	for w := range watchers {
		w.moved()
	}
}

// next is when expire has something to do.
func (r *roster) next() (time.Time, bool) {
	first := r.leavers.Front()
	if first == nil {
		return time.Time{}, false
	}
	return first.Value.(*person).deadline, true
}

// expire: those whose grace is over are offline or, where they may not be yet, held until release asks again.
func (r *roster) expire(now time.Time, mayEnd func(*person) bool) {
	for first := r.leavers.Front(); first != nil; first = r.leavers.Front() {
		p := first.Value.(*person)
		if p.deadline.After(now) {
			return
		}
		if mayEnd(p) {
			r.end(p)
			continue
		}
		r.leavers.Remove(first)
		p.leaving = nil
		r.held[p] = struct{}{}
	}
}

func (r *roster) release(mayEnd func(*person) bool) {
	for p := range r.held {
		if mayEnd(p) {
			r.end(p)
		}
	}
}

// set replaces whom the connection watches, and answers those of whom nothing is known here.
func (r *roster) set(w *watch, userIDs []string) (unknown []string) {
	before := w.people
	w.answered = false
	for _, p := range before {
		delete(p.watches, w)
	}
	w.people = nil
	known := map[string]bool{}
	for _, userID := range userIDs {
		if known[userID] {
			continue
		}
		known[userID] = true
		p := r.person(userID)
		if p.watches == nil {
			p.watches = map[*watch]struct{}{}
		}
		p.watches[w] = struct{}{}
		w.people = append(w.people, p)
		if p.state == offline && p.lastSeen == 0 {
			unknown = append(unknown, userID)
		}
	}
	for _, p := range before {
		r.forget(p)
	}
	return unknown
}

// learn takes what storage knows.
func (r *roster) learn(userID string, timeMs int64) {
	if p := r.people[userID]; p != nil {
		p.lastSeen = max(p.lastSeen, timeMs)
	}
}

// find is nil where nothing is known.
func (r *roster) find(userID string) *parleyv1.Presence {
	p := r.people[userID]
	if p == nil || p.state == offline && p.lastSeen == 0 {
		return nil
	}
	return presenceOf(p)
}

// oldest are the last-seen times that are not kept yet.
func (r *roster) oldest(most int) (some []seen) {
	for at := r.unsavedOld.Front(); at != nil && len(some) < most; at = at.Next() {
		some = append(some, at.Value.(seen))
	}
	return some
}

func (r *roster) saved(some []seen) {
	for _, one := range some {
		if at := r.unsaved[one.userID]; at != nil && at.Value.(seen) == one {
			r.giveUp(one.userID)
		}
	}
}

// seenAll: it is going to forget everything, so whoever is online was seen just now.
func (r *roster) seenAll(now time.Time) {
	for _, p := range r.people {
		if p.state == online {
			r.see(p, now)
		}
	}
}

func (r *roster) person(userID string) *person {
	p := r.people[userID]
	if p == nil {
		p = &person{userID: userID}
		r.people[userID] = p
	}
	return p
}

func (r *roster) leaveAll(people map[*person]struct{}, from *source, now time.Time) {
	for p := range people {
		p.sources--
		if p.sources == 0 {
			r.leave(p, from, now)
		}
	}
}

func (r *roster) leave(p *person, from *source, now time.Time) {
	was := p.state
	p.state = leaving
	r.begin(p, from, now)
	r.see(p, now)
	if was == offline {
		r.tell(p)
	}
}

func (r *roster) begin(p *person, from *source, now time.Time) {
	r.stay(p)
	p.leftBy = from
	p.deadline = now.Add(r.grace)
	p.leaving = r.leavers.PushBack(p)
}

func (r *roster) stay(p *person) {
	if p.leaving != nil {
		r.leavers.Remove(p.leaving)
		p.leaving = nil
	}
	delete(r.held, p)
	p.leftBy = nil
}

func (r *roster) end(p *person) {
	r.stay(p)
	p.state = offline
	r.tell(p)
	r.forget(p)
}

func (r *roster) see(p *person, now time.Time) {
	p.lastSeen = max(p.lastSeen, now.UnixMilli())
	if r.unsavedOld.Len() >= r.unsavedMax {
		r.giveUp(r.unsavedOld.Front().Value.(seen).userID)
	}
	// Again at the end of the line: what is being kept now may be older.
	if at := r.unsaved[p.userID]; at != nil {
		r.unsavedOld.Remove(at)
	}
	r.unsaved[p.userID] = r.unsavedOld.PushBack(seen{p.userID, p.lastSeen})
}

func (r *roster) giveUp(userID string) {
	r.unsavedOld.Remove(r.unsaved[userID])
	delete(r.unsaved, userID)
	if p := r.people[userID]; p != nil {
		r.forget(p)
	}
}

func (r *roster) tell(p *person) {
	for w := range p.watches {
		if w.answered {
			w.watcher.changed(p)
		}
	}
}

func (r *roster) forget(p *person) {
	if p.state != offline || len(p.watches) > 0 || r.unsaved[p.userID] != nil {
		return
	}
	// Somebody else may have the place by now.
	if r.people[p.userID] == p {
		delete(r.people, p.userID)
	}
}

// presenceOf is how the others see it.
func presenceOf(p *person) *parleyv1.Presence {
	if p.state == offline {
		return &parleyv1.Presence{UserId: p.userID, Availability: parleyv1.Availability_AVAILABILITY_OFFLINE, LastSeenMs: p.lastSeen}
	}
	return &parleyv1.Presence{UserId: p.userID, Availability: parleyv1.Availability_AVAILABILITY_ONLINE}
}

func remove(from map[*person]struct{}, p *person) bool {
	_, there := from[p]
	delete(from, p)
	return there
}

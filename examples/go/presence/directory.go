package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// An instance is one life of a process, as it tells the others of itself. Fields that are not here are somebody else's affair, and kept out.
type instance struct {
	ID       string `json:"-"`
	Name     string `json:"name"`
	Address  string `json:"address"`
	Region   string `json:"region"`
	URL      string `json:"url"`
	Draining bool   `json:"draining"`
}

// A directory is etcd: who is there, and this process among them.
type directory struct {
	client  *clientv3.Client
	prefix  string // "/parley/instances/"
	ttl     int64  // seconds
	log     *slog.Logger
	changed func(service string) // called without the lock, after each change
	admit   *admission

	mu        sync.Mutex
	instances map[string]map[string]instance // by service and id; another map after each change
	revision  int64                          // everything up to it was heard; 0: nothing
	own       instance
	lease     clientv3.LeaseID
	joined    bool
	since     int64         // the revision of its announcement
	lost      chan struct{} // closed when the present life is known to be over
	renewed   time.Time     // when the lease was renewed
	kept      string        // why it is not announced, though it could be; "": it may be
}

func newDirectory(client *clientv3.Client, prefix string, ttl int64, own instance, admit *admission, log *slog.Logger) *directory {
	own.ID = newID()
	return &directory{
		client: client, prefix: strings.TrimRight(prefix, "/") + "/instances/", ttl: ttl, admit: admit, log: log,
		instances: map[string]map[string]instance{}, own: own,
	}
}

// newID is an id that nobody else has.
func newID() string {
	var bytes [16]byte
	rand.Read(bytes[:])
	return base64.RawURLEncoding.EncodeToString(bytes[:])
}

// id is that of the present life.
func (d *directory) id() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.own.ID
}

// problems are why it is not announced.
func (d *directory) problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.joined {
		return nil
	}
	if d.kept != "" {
		return []string{d.kept}
	}
	return []string{"it is not announced to the other processes"}
}

// leaseAge is how long ago the lease was renewed, in seconds.
func (d *directory) leaseAge() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.joined {
		return math.NaN()
	}
	return time.Since(d.renewed).Seconds()
}

// others are the processes of all services but for those at its own address: what it was before its present life.
func (d *directory) others() (all []instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.instances {
		for _, one := range of {
			if one.Address != d.own.Address {
				all = append(all, one)
			}
		}
	}
	return all
}

// mayJoin asks the others whether they let this process in.
func (d *directory) mayJoin(ctx context.Context) verdict {
	said, reason := d.admit.ask(ctx, d.others())
	d.mu.Lock()
	defer d.mu.Unlock()
	if reason != "" && reason != d.kept {
		d.log.Warn(reason)
	}
	d.kept = reason
	return said
}

// present are the live instances of a service, in order of id, as last heard.
func (d *directory) present(service string) []instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]instance, 0, len(d.instances[service]))
	for _, one := range d.instances[service] {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b instance) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// hear lists all instances and hears every change after that, until the context ends. While etcd cannot be reached all stays as it was.
func (d *directory) hear(ctx context.Context, listed func()) {
	for pause := 100 * time.Millisecond; ctx.Err() == nil; wait(ctx, pause) {
		answer, err := d.client.Get(timed(ctx), d.prefix, clientv3.WithPrefix())
		if err != nil {
			d.log.Warn("etcd does not list who is there", "reason", err)
			continue
		}
		d.list(answer)
		listed()
		watching, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
		changes := d.client.Watch(watching, d.prefix, clientv3.WithPrefix(), clientv3.WithRev(answer.Header.Revision+1))
		for change := range changes {
			if change.Err() != nil {
				d.log.Warn("the watch of etcd ended, listing again", "reason", change.Err())
				break
			}
			d.take(change.Events)
		}
		stop()
	}
}

func (d *directory) list(answer *clientv3.GetResponse) {
	d.mu.Lock()
	before := d.instances
	if answer.Header.Revision < d.revision {
		d.mu.Unlock()
		return
	}
	d.revision = answer.Header.Revision
	d.instances = map[string]map[string]instance{}
	for _, kv := range answer.Kvs {
		d.put(kv.Key, kv.Value)
	}
	services := map[string]bool{}
	for _, of := range []map[string]map[string]instance{before, d.instances} {
		for service := range of {
			services[service] = true
		}
	}
	d.looked()
	d.mu.Unlock()
	for service := range services {
		d.changed(service)
	}
}

func (d *directory) take(events []*clientv3.Event) {
	d.mu.Lock()
	services := map[string]bool{}
	for _, event := range events {
		if event.Kv.ModRevision <= d.revision {
			continue
		}
		if service, id, ok := d.parse(event.Kv.Key); ok {
			services[service] = true
			if event.Type == clientv3.EventTypeDelete {
				delete(d.instances[service], id)
			} else {
				d.put(event.Kv.Key, event.Kv.Value)
			}
		}
	}
	for _, event := range events {
		d.revision = max(d.revision, event.Kv.ModRevision)
	}
	d.looked()
	d.mu.Unlock()
	for service := range services {
		d.changed(service)
	}
}

func (d *directory) put(key, value []byte) {
	service, id, ok := d.parse(key)
	if !ok {
		return
	}
	one := instance{ID: id}
	if json.Unmarshal(value, &one) != nil {
		d.log.Warn("no instance, not heeded", "key", string(key))
		return
	}
	if d.instances[service] == nil {
		d.instances[service] = map[string]instance{}
	}
	d.instances[service][id] = one
}

func (d *directory) parse(key []byte) (service, id string, ok bool) {
	service, escaped, ok := strings.Cut(strings.TrimPrefix(string(key), d.prefix), "/")
	id, err := url.PathUnescape(escaped)
	return service, id, ok && err == nil
}

// looked: somebody may have taken this life's key away while its lease lives.
func (d *directory) looked() {
	_, there := d.instances["presence"][d.own.ID]
	if d.joined && !there && d.revision >= d.since {
		d.loseLocked()
	}
}

// stay keeps this process announced, one life after the other, until the context ends.
func (d *directory) stay(ctx context.Context) {
	for ctx.Err() == nil {
		said := d.mayJoin(ctx)
		if said == refused {
			wait(ctx, time.Second)
			continue
		}
		lost, lease, err := d.join(ctx)
		if err != nil {
			d.log.Warn("it is not announced to the other processes", "reason", err)
			wait(ctx, 500*time.Millisecond)
			continue
		}
		d.log.Info("it is announced to the other processes", "id", d.id())
		go d.keepAlive(ctx, lease)
		if said != letIn {
			go d.askAgain(ctx, lease)
		}
		select {
		case <-ctx.Done():
			return
		case <-lost:
		}
		d.log.Warn("its lease was lost: it begins another life under a new id")
		// Where only the key was taken away the lease lives.
		d.client.Revoke(timed(ctx), lease)
		d.changed("presence")
	}
}

func (d *directory) join(ctx context.Context) (lost chan struct{}, lease clientv3.LeaseID, err error) {
	began := time.Now()
	granted, err := d.client.Grant(timed(ctx), d.ttl)
	if err != nil {
		return nil, 0, err
	}
	d.mu.Lock()
	own := d.own
	d.mu.Unlock()
	key := d.key(own.ID)
	value, _ := json.Marshal(own)
	answer, err := d.client.Txn(timed(ctx)).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(granted.ID))).
		Commit()
	if err == nil && !answer.Succeeded {
		err = errors.New("an instance of this id is there already")
	}
	if err != nil {
		// It may have been put all the same: that life is given up.
		d.client.Revoke(timed(ctx), granted.ID)
		d.mu.Lock()
		d.own.ID = newID()
		d.mu.Unlock()
		return nil, 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lease, d.joined, d.lost = granted.ID, true, make(chan struct{})
	d.renewed = began
	d.since = answer.Header.Revision
	d.looked()
	return d.lost, granted.ID, nil
}

// keepAlive renews the lease until etcd says that there is none. That etcd cannot be reached does not say so.
func (d *directory) keepAlive(ctx context.Context, lease clientv3.LeaseID) {
	third := time.Duration(d.ttl) * time.Second / 3
	for ; ctx.Err() == nil && d.has(lease); wait(ctx, third) {
		asking, done := context.WithTimeout(ctx, third)
		began := time.Now()
		_, err := d.client.KeepAliveOnce(asking, lease)
		done()
		if err == nil {
			d.mu.Lock()
			d.renewed = began
			d.mu.Unlock()
		}
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			d.mu.Lock()
			if d.lease == lease {
				d.loseLocked()
			}
			d.mu.Unlock()
			return
		}
	}
}

// askAgain, where nobody was there to say whether it may be announced, as others come: it goes again should they refuse it.
func (d *directory) askAgain(ctx context.Context, lease clientv3.LeaseID) {
	for wait(ctx, time.Second); ctx.Err() == nil && d.has(lease); wait(ctx, time.Second) {
		switch d.mayJoin(ctx) {
		case letIn:
			return
		case refused:
			d.mu.Lock()
			if d.lease == lease {
				d.loseLocked()
			}
			d.mu.Unlock()
			return
		}
	}
}

func (d *directory) has(lease clientv3.LeaseID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.joined && d.lease == lease
}

func (d *directory) loseLocked() {
	if !d.joined {
		return
	}
	d.joined = false
	leasesLost.Inc()
	d.own.ID = newID()
	close(d.lost)
}

// drain tells the others that nothing new is to be placed here.
func (d *directory) drain(ctx context.Context) error {
	d.mu.Lock()
	d.own.Draining = true
	own, lease := d.own, d.lease
	d.mu.Unlock()
	value, _ := json.Marshal(own)
	key := d.key(own.ID)
	_, err := d.client.Txn(timed(ctx)).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", lease)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(lease))).
		Commit()
	return err
}

// leave ends the lease, so that the others know at once.
func (d *directory) leave(ctx context.Context) error {
	d.mu.Lock()
	lease := d.lease
	d.joined = false
	d.mu.Unlock()
	_, err := d.client.Revoke(timed(ctx), lease)
	return err
}

func (d *directory) key(id string) string {
	return d.prefix + "presence/" + url.PathEscape(id)
}

// timed bounds one question to etcd.
func timed(ctx context.Context) context.Context {
	bounded, done := context.WithTimeout(ctx, 3*time.Second)
	context.AfterFunc(bounded, done)
	return bounded
}

func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	presencev1 "parley.example/presence/gen/parley/presence/v1"
	storagev1 "parley.example/presence/gen/parley/storage/v1"
	parleyv1 "parley.example/presence/gen/parley/v1"
)

const userIDsMax = 1_000

// presence is the service: the handlers, over the roster, which one lock guards with all that watches it.
type presence struct {
	presencev1.UnimplementedPresenceServiceServer

	ctx      context.Context
	stop     context.CancelFunc
	settings settings
	log      *slog.Logger
	links    *links
	storage  storagev1.StorageServiceClient
	keeper   *keeper

	mu        sync.Mutex
	roster    *roster
	following *following
	streams   map[*watchStream]struct{}
	closed    bool
}

func newPresence(settings settings, links *links, storage storagev1.StorageServiceClient, log *slog.Logger) *presence {
	p := &presence{
		settings: settings, log: log, links: links, storage: storage,
		roster: newRoster(settings.grace, settings.unsavedMax), streams: map[*watchStream]struct{}{},
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.keeper = newKeeper(p)
	p.following = &following{p: p, followed: map[string]*followed{}}
	go p.keeper.run(p.ctx)
	return p
}

func (p *presence) locked(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

func (p *presence) problems() (all []string) {
	p.locked(func() {
		all = p.following.problems()
		if p.closed {
			all = []string{"presence is closing"}
		}
	})
	return all
}

// learned: of whom it is known whether they are online changed. The lock is held.
func (p *presence) learned() {
	for stream := range p.streams {
		stream.learned()
	}
}

func (p *presence) Watch(stream presencev1.PresenceService_WatchServer) error {
	s := newWatchStream(p, stream.Context())
	closed := false
	p.locked(func() {
		if closed = p.closed; !closed {
			p.streams[s] = struct{}{}
		}
	})
	if closed {
		return status.Error(codes.Unavailable, "presence is closing")
	}
	defer p.locked(func() {
		s.end(nil)
		delete(p.streams, s)
	})
	go s.read(stream)
	return s.write(stream)
}

func (p *presence) GetPresences(ctx context.Context, request *presencev1.GetPresencesRequest) (*presencev1.GetPresencesResponse, error) {
	userIDs := request.UserIds
	if len(userIDs) > userIDsMax {
		return nil, status.Errorf(codes.InvalidArgument, "%d users are too many: ask for at most %d", len(userIDs), userIDsMax)
	}
	response := &presencev1.GetPresencesResponse{}
	unknown := []string{}
	known := p.look(userIDs, func(userID string, found *parleyv1.Presence) {
		if found == nil {
			unknown = append(unknown, userID)
		}
		response.Presences = append(response.Presences, found)
	})
	if known && len(unknown) > 0 {
		bounded, done := context.WithTimeout(ctx, askTimeout)
		defer done()
		answer, err := p.storage.GetLastSeen(bounded, &storagev1.GetLastSeenRequest{UserIds: unknown})
		if err != nil {
			return nil, err
		}
		lastSeen := map[string]int64{}
		for _, one := range answer.Seen {
			lastSeen[one.UserId] = one.TimeMs
		}
		response.Presences = nil
		known = p.look(userIDs, func(userID string, found *parleyv1.Presence) {
			if found == nil {
				found = presenceOf(&person{userID: userID, lastSeen: lastSeen[userID]})
			}
			response.Presences = append(response.Presences, found)
		})
	}
	if !known {
		return nil, notKnown.Err()
	}
	return response, nil
}

// look shows how each is at one moment; false: it is not known of all of them.
func (p *presence) look(userIDs []string, show func(string, *parleyv1.Presence)) (known bool) {
	p.locked(func() {
		if known = p.following.knows(userIDs); known {
			for _, userID := range userIDs {
				show(userID, p.roster.find(userID))
			}
		}
	})
	return known
}

// close ends what watches, and keeps what is not kept yet. Others know better who is online, where there are others.
func (p *presence) close(id string) {
	p.locked(func() {
		p.closed = true
		p.following.close()
		for stream := range p.streams {
			stream.end(status.Error(codes.Unavailable, "presence is closing"))
		}
		if p.following.isLast(id) {
			p.roster.seenAll(time.Now())
		}
	})
	p.stop()
	p.keeper.close()
}

// A bot that answers each "ping" of a direct chat with "pong", once, whatever happens to it, to the network or to the server.
//
// It makes Connect calls and listens to Connect's stream. ../../README.md says why it is built as it is.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	parleyv1 "example.org/bot/generated/parley/v1"
	"example.org/bot/generated/parley/v1/parleyv1connect"
)

const (
	callTimeout = 30 * time.Second
	// A heartbeat comes every 30 seconds: two are missing.
	silence = 75 * time.Second
)

// headers are those of every request.
type headers struct{ token, device string }

func (h headers) set(header http.Header) {
	header.Set("Authorization", "Bearer "+h.token)
	header.Set("Parley-Device", h.device)
}

func (h headers) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		h.set(request.Header())
		return next(ctx, request)
	}
}

func (h headers) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		h.set(conn.RequestHeader())
		return conn
	}
}

func (h headers) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// farewell is the server's goodbye.
type farewell struct{ *parleyv1.Goodbye }

func (f farewell) Error() string { return f.Reason.String() }

type bot struct {
	url, user string
	headers   headers
	client    parleyv1connect.ChatServiceClient
	syncToken []byte
	heard     bool
	// By conversation: the last seq that there is, up to which all is answered, and up to which an answer may have been sent.
	heads, answered, tried map[string]uint32
}

func (b *bot) dial(url string) {
	url = strings.TrimRight(url, "/")
	b.client = parleyv1connect.NewChatServiceClient(http.DefaultClient, url, connect.WithInterceptors(b.headers))
}

// run stays connected, until ctx ends or the server says that coming back makes no sense.
func (b *bot) run(ctx context.Context) error {
	b.dial(b.url)
	for failures := 0; ; {
		b.heard = false
		err := b.listen(ctx)
		if ctx.Err() != nil {
			return nil
		}
		log.Printf("disconnected: %v", err)
		if b.heard {
			failures = 0
		}
		wait := time.Duration(rand.Int64N(int64(min(500*time.Millisecond<<min(failures, 10), 30*time.Second))))
		failures++
		url := b.url
		var goodbye farewell
		var refused *connect.Error
		switch {
		case errors.As(err, &goodbye):
			if goodbye.Reason >= parleyv1.CloseReason_CLOSE_REASON_UNAUTHENTICATED {
				return err
			}
			wait = time.Duration(goodbye.ReconnectAfterMs) * time.Millisecond
			if mayFollow(b.url, goodbye.Url) {
				url = goodbye.Url
			}
		case connect.CodeOf(err) == connect.CodeUnauthenticated:
			return err
		case errors.As(err, &refused):
			if ms, err := strconv.Atoi(refused.Meta().Get("Retry-After-Ms")); err == nil {
				wait = time.Duration(ms) * time.Millisecond
			}
		}
		b.dial(url)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// mayFollow: never from TLS to none.
func mayFollow(configured, url string) bool {
	return strings.HasPrefix(url, "https:") || strings.HasPrefix(url, "http:") && strings.HasPrefix(configured, "http:")
}

// listen takes what the server sends and does what is to be done about it. Whatever fails ends it: the next try goes on from there.
func (b *bot) listen(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errors.New("nothing was heard")) })
	defer watch.Stop()
	stream, err := b.client.Subscribe(ctx, connect.NewRequest(&parleyv1.SubscribeRequest{Token: b.syncToken, RecordsPerConversation: 1}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		watch.Reset(silence)
		mustSync := false
		switch event := stream.Msg().Event.(type) {
		case *parleyv1.SubscribeResponse_Sync:
			if event.Sync.Complete && !b.heard {
				b.heard = true
				log.Printf("connected as %s", b.user)
			}
			b.noteSync(event.Sync)
		case *parleyv1.SubscribeResponse_Pushed:
			for _, record := range event.Pushed.Records {
				b.note(record.ConversationId, record.Seq)
			}
			mustSync = event.Pushed.Resync
		case *parleyv1.SubscribeResponse_Heartbeat:
			var sum uint64
			for _, head := range b.heads {
				sum += uint64(head)
			}
			mustSync = event.Heartbeat.GetHeadSum() > sum
		case *parleyv1.SubscribeResponse_Goodbye:
			return farewell{event.Goodbye}
		}
		if err := b.work(ctx, mustSync); err != nil {
			return err
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return errors.New("the stream ended")
}

func (b *bot) note(conversation string, seq uint32) {
	b.heads[conversation] = max(seq, b.heads[conversation])
}

func (b *bot) noteSync(sync *parleyv1.SyncResponse) {
	for _, delta := range sync.Conversations {
		b.note(delta.Conversation.ConversationId, delta.Conversation.HeadSeq)
	}
	b.syncToken = sync.Token
}

// work does what there is to do.
func (b *bot) work(ctx context.Context, mustSync bool) error {
	for mustSync {
		sync, err := b.client.Sync(ctx, connect.NewRequest(&parleyv1.SyncRequest{Token: b.syncToken}))
		if err != nil {
			return err
		}
		b.noteSync(sync.Msg)
		mustSync = !sync.Msg.Complete
	}
	for conversation, head := range b.heads {
		if !strings.HasPrefix(conversation, "d:") || b.answered[conversation] >= head {
			continue
		}
		err := b.answerAll(ctx, conversation, head)
		switch connect.CodeOf(err) {
		case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodePermissionDenied:
			log.Printf("no answers in %s: %v", conversation, err)
			b.answered[conversation] = head
		default:
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// answerAll answers what is not answered yet, oldest first.
func (b *bot) answerAll(ctx context.Context, conversation string, head uint32) error {
	if _, known := b.answered[conversation]; !known {
		b.tried[conversation] = head // by an earlier life of this bot, maybe
		last, err := b.lastAnswered(ctx, conversation)
		if err != nil {
			return err
		}
		b.answered[conversation] = last
	}
	for b.answered[conversation] < head {
		page, err := b.client.History(ctx, connect.NewRequest(&parleyv1.HistoryRequest{
			ConversationId: conversation, AfterSeq: b.answered[conversation],
		}))
		if err != nil || len(page.Msg.Records) == 0 {
			return err
		}
		for _, record := range page.Msg.Records {
			if err := b.answer(ctx, record); err != nil {
				return err
			}
			b.answered[conversation] = record.Seq
		}
		seq := b.answered[conversation]
		if _, err := b.client.MoveCursor(ctx, connect.NewRequest(&parleyv1.MoveCursorRequest{
			ConversationId: conversation, DeliveredSeq: seq, ReadSeq: seq,
		})); err != nil {
			return err
		}
	}
	return nil
}

// lastAnswered: the log itself says how far an earlier life of this bot came: answers are made in order, and name what they answer.
func (b *bot) lastAnswered(ctx context.Context, conversation string) (uint32, error) {
	for before := uint32(0); ; {
		page, err := b.client.History(ctx, connect.NewRequest(&parleyv1.HistoryRequest{
			ConversationId: conversation, BeforeSeq: before, Limit: 200,
		}))
		if err != nil {
			return 0, err
		}
		records := page.Msg.Records
		for at := len(records) - 1; at >= 0; at-- {
			if answered := records[at].GetMessage().GetReplyToSeq(); records[at].SenderId == b.user && answered != 0 {
				return answered, nil
			}
		}
		if len(records) == 0 || records[0].Seq <= max(page.Msg.FloorSeq, 1) {
			return 0, nil
		}
		before = records[0].Seq
	}
}

func (b *bot) answer(ctx context.Context, record *parleyv1.Record) error {
	conversation, seq := record.ConversationId, record.Seq
	rest, isPing := strings.CutPrefix(record.GetMessage().GetText(), "ping")
	if record.SenderId == b.user || !isPing {
		return nil
	}
	retry := seq <= b.tried[conversation]
	b.tried[conversation] = max(seq, b.tried[conversation])
	// The same at every try, in every life of this bot: never a second answer.
	clientID := sha256.Sum256(fmt.Appendf(nil, "%s#%d", conversation, seq))
	sent, err := b.client.Send(ctx, connect.NewRequest(&parleyv1.SendRequest{
		To:           &parleyv1.SendRequest_ConversationId{ConversationId: conversation},
		ClientId:     clientID[:16],
		Content:      &parleyv1.Content{Text: "pong" + rest, ReplyToSeq: seq},
		KnownHeadSeq: seq,
		Retry:        retry,
	}))
	if err == nil {
		log.Printf("answered %s #%d with #%d", conversation, seq, sent.Msg.Seq)
	}
	return err
}

// userOf: the user that a token names.
func userOf(token string) (string, error) {
	var claims struct{ Sub string }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	err = json.Unmarshal(payload, &claims)
	return claims.Sub, err
}

func main() {
	token, device := os.Getenv("PARLEY_TOKEN"), os.Getenv("PARLEY_DEVICE")
	if device == "" {
		device = "pong"
	}
	user, err := userOf(token)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bot{
		url: os.Getenv("PARLEY_URL"), user: user, headers: headers{token, device},
		heads: map[string]uint32{}, answered: map[string]uint32{}, tried: map[string]uint32{},
	}
	if err := b.run(ctx); err != nil {
		log.Fatal(err)
	}
}

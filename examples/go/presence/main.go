// Presence of Parley, in Go: who is online, when the others were last seen, and who wants to know. A process of a cluster like any other of its
// service; what it must do says docs/polyglot.md, and `npm run conformance -- --service presence` tries it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	presencev1 "parley.example/presence/gen/parley/presence/v1"
	storagev1 "parley.example/presence/gen/parley/storage/v1"
)

// So long after its users were placed elsewhere gateways watch them there.
const movedAfter = 6 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "presence:", err)
		os.Exit(1)
	}
}

func run() error {
	settings, err := readSettings()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	listener, err := net.Listen("tcp", settings.meshAddress)
	if err != nil {
		return err
	}
	front, err := net.Listen("tcp", settings.health)
	if err != nil {
		return err
	}
	etcd, err := clientv3.New(clientv3.Config{Endpoints: settings.etcd, Logger: zap.NewNop(), DialOptions: dialOptions})
	if err != nil {
		return err
	}
	defer etcd.Close()
	var own *certificates
	secured := insecure.NewCredentials()
	if settings.tls != nil {
		own = newCertificates(*settings.tls, log)
		secured = meshTLS{own, log}
	}
	links := newLinks(secured)
	storage, err := links.connectAny("storage")
	if err != nil {
		return err
	}
	defer storage.channel.Close()

	service := newPresence(settings, links, storagev1.NewStorageServiceClient(storage.channel), log)
	address := settings.advertise
	if address == "" {
		address = listener.Addr().String()
	}
	directory := newDirectory(etcd, settings.etcdPrefix, settings.leaseSeconds,
		instance{Address: address, Region: settings.region}, &admission{links, own}, log)
	directory.changed = func(name string) {
		switch name {
		case "presence":
			service.locked(func() { service.following.shareAnew(directory.present(name), directory.id()) })
		case "session":
			service.locked(func() { service.following.meet(directory.present(name)) })
		case "storage":
			storage.are(directory.present(name))
		}
	}
	problems := func() []string {
		return append(service.problems(), directory.problems()...)
	}
	server, stopHealth := serve(listener, secured, service, problems)
	defer serveFront(front, problems, own.warnings).Close()
	if settings.metrics != "" {
		counted, err := net.Listen("tcp", settings.metrics)
		if err != nil {
			return err
		}
		defer serveMetrics(counted, service, directory, problems).Close()
	}
	saysWhere(directory.id(), listener, front)

	// Whoever is there is known before it is announced: it would have everybody otherwise.
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM, syscall.SIGINT)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	hearing, deafen := context.WithCancel(context.Background())
	defer deafen()
	heard := make(chan struct{}, 1)
	go directory.hear(hearing, func() {
		directory.changed("presence")
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	select {
	case <-heard:
		go directory.stay(ctx)
		<-ending
		goAway(ctx, leave, settings, service, directory, log)
	case <-ending:
	}
	service.close(directory.id())
	stopHealth()
	stopped := time.AfterFunc(time.Second, server.Stop)
	server.GracefulStop()
	stopped.Stop()
	return nil
}

// goAway tells the others, waits until they have placed elsewhere what is here, and leaves.
func goAway(ctx context.Context, leave context.CancelFunc, settings settings, service *presence, directory *directory, log *slog.Logger) {
	log.Info("it goes away")
	if err := directory.drain(ctx); err != nil {
		log.Warn("the others could not be told that it goes away", "reason", err)
	}
	staying := slices.ContainsFunc(directory.present("presence"), func(one instance) bool {
		return one.ID != directory.id() && !one.Draining
	})
	if staying {
		wait(ctx, min(settings.drain, movedAfter))
	}
	leave()
	if err := directory.leave(context.Background()); err != nil {
		log.Warn("the lease is left to end by itself", "reason", err)
	}
}

// serve serves gRPC, with health and reflection.
func serve(listener net.Listener, secured credentials.TransportCredentials, service *presence, problems func() []string) (server *grpc.Server, stop func()) {
	server = grpc.NewServer(
		grpc.Creds(secured),
		// Neighbours ask for a sign of life every five seconds; gRPC's own bound would end their connections for it.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	presencev1.RegisterPresenceServiceServer(server, service)
	healthy := health.NewServer()
	healthv1.RegisterHealthServer(server, healthy)
	reflection.Register(server)
	look := func() {
		status := healthv1.HealthCheckResponse_SERVING
		if len(problems()) > 0 {
			status = healthv1.HealthCheckResponse_NOT_SERVING
		}
		healthy.SetServingStatus("", status)
		healthy.SetServingStatus(presencev1.PresenceService_ServiceDesc.ServiceName, status)
	}
	look()
	looking, stop := context.WithCancel(context.Background())
	go func() {
		for ; looking.Err() == nil; wait(looking, 100*time.Millisecond) {
			look()
		}
		healthy.Shutdown()
	}()
	go server.Serve(listener)
	return server, stop
}

// serveFront serves /healthz and /readyz, for orchestrators.
func serveFront(listener net.Listener, problems, warnings func() []string) *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("/healthz", func(response http.ResponseWriter, _ *http.Request) { fmt.Fprintln(response, "ok") })
	routes.HandleFunc("/readyz", func(response http.ResponseWriter, _ *http.Request) {
		if reasons := problems(); len(reasons) > 0 {
			response.Header().Set("Content-Type", "application/json")
			response.WriteHeader(http.StatusServiceUnavailable)
			json.NewEncoder(response).Encode(map[string]any{"ready": false, "reasons": reasons})
			return
		}
		fmt.Fprintln(response, "ready")
		for _, warning := range warnings() {
			fmt.Fprintln(response, "warning: "+warning)
		}
	})
	server := &http.Server{Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	return server
}

// saysWhere says where it listens, for whoever started it.
func saysWhere(id string, mesh, front net.Listener) {
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"service": "presence", "id": id, "pid": os.Getpid(),
		"mesh": mesh.Addr().String(), "health": "http://" + front.Addr().String(),
	})
}

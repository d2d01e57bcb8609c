package main

import (
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The names are those of Parley's own presence, so that dashboards and alerts know both.
var (
	leasesLost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_leases_lost_total",
		Help: "Lives of the process that ended while it ran on: its lease was lost, or it was revoked.",
	})
	streamsUp = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_streams", Help: "Streams to other services that are up.",
	}, []string{"stream"})
	streamFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_stream_failures_total",
		Help: "Streams to other services that broke, or could not be had; they are tried again.",
	}, []string{"stream"})
)

// onlineStream names the streams from session as Parley's own does.
const onlineStream = "presence to session"

// serveMetrics serves /metrics, on a port of its own.
func serveMetrics(listener net.Listener, service *presence, directory *directory, problems func() []string) *http.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		leasesLost, streamsUp, streamFailures,
	)
	level := func(name, help string, read func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	locked := func(read func() int) func() float64 {
		return func() (found float64) {
			service.locked(func() { found = float64(read()) })
			return found
		}
	}
	level("parley_presence_people", "Users in memory: online, watched, or with a last-seen time that is not kept yet.",
		locked(func() int { return len(service.roster.people) }))
	level("parley_presence_watchers", "Connections that watch others.",
		locked(func() (all int) {
			for stream := range service.streams {
				all += len(stream.lines)
			}
			return all
		}))
	level("parley_presence_unsaved", "Last-seen times that are not kept yet.",
		locked(func() int { return len(service.roster.unsaved) }))
	level("parley_ready", "1: it can serve; 0: /readyz says why not.", func() float64 {
		if len(problems()) > 0 {
			return 0
		}
		return 1
	})
	level("parley_lease_age_seconds", "How long ago the lease in etcd was renewed; NaN while there is none.", directory.leaseAge)
	// There before anything happened: what is missing cannot be told from what never was.
	streamsUp.WithLabelValues(onlineStream)
	streamFailures.WithLabelValues(onlineStream)
	routes := http.NewServeMux()
	routes.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	return server
}

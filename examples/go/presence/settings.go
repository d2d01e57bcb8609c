package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings are those of Parley's own presence process: PARLEY_... in the environment.
type settings struct {
	etcd         []string
	etcdPrefix   string
	leaseSeconds int64
	meshAddress  string            // where gRPC listens
	advertise    string            // where the others find it; "": where it listens
	health       string            // where /healthz and /readyz are
	metrics      string            // where /metrics is; "": nowhere
	tls          *certificateFiles // nil: the mesh has none
	region       string
	drain        time.Duration
	grace        time.Duration
	watchMax     int
	outboxMax    int
	unsavedMax   int
}

// readSettings names everything that is wrong at once.
func readSettings() (settings, error) {
	var wrong []error
	text := func(name, otherwise string) string {
		if value, there := os.LookupEnv("PARLEY_" + name); there && value != "" {
			return value
		}
		return otherwise
	}
	number := func(name string, otherwise, least, most int) int {
		value, err := strconv.Atoi(text(name, strconv.Itoa(otherwise)))
		if err != nil || value < least || value > most {
			wrong = append(wrong, fmt.Errorf("PARLEY_%s must be a number from %d to %d", name, least, most))
		}
		return value
	}
	place := func(what string, port int) string {
		return net.JoinHostPort(text(what+"_HOST", "127.0.0.1"), strconv.Itoa(number(what+"_PORT", port, 0, 65_535)))
	}
	millis := func(name string, otherwise int) time.Duration {
		return time.Duration(number(name, otherwise, 0, 600_000)) * time.Millisecond
	}
	if text("ETCD_CA_FILE", "") != "" {
		wrong = append(wrong, errors.New("PARLEY_ETCD_CA_FILE: this presence speaks no TLS to etcd"))
	}
	var certificates *certificateFiles
	if files := (certificateFiles{text("TLS_CERT_FILE", ""), text("TLS_KEY_FILE", ""), text("TLS_CA_FILE", "")}); files != (certificateFiles{}) {
		certificates = &files
		if files.cert == "" || files.key == "" || files.ca == "" {
			wrong = append(wrong, errors.New("PARLEY_TLS_CERT_FILE, PARLEY_TLS_KEY_FILE and PARLEY_TLS_CA_FILE belong together: set all or none"))
		}
	}
	metrics := ""
	if port := number("METRICS_PORT", 0, 0, 65_535); port > 0 {
		metrics = net.JoinHostPort(text("METRICS_HOST", "127.0.0.1"), strconv.Itoa(port))
	}
	read := settings{
		etcd:         strings.Split(text("ETCD", "127.0.0.1:2379"), ","),
		etcdPrefix:   text("ETCD_PREFIX", "/parley"),
		leaseSeconds: int64(number("LEASE_SECONDS", 5, 2, 60)),
		meshAddress:  place("MESH", 9_090),
		advertise:    text("ADVERTISE", ""),
		health:       place("HEALTH", 9_091),
		metrics:      metrics,
		tls:          certificates,
		region:       text("REGION", ""),
		drain:        millis("DRAIN_MS", 10_000),
		grace:        millis("PRESENCE_GRACE_MS", 10_000),
		watchMax:     number("PRESENCE_WATCH_MAX", 1_000, 1, 10_000),
		outboxMax:    number("PRESENCE_OUTBOX_MAX", 65_536, 100, 10_000_000),
		unsavedMax:   number("PRESENCE_UNSAVED_MAX", 200_000, 1_000, 10_000_000),
	}
	return read, errors.Join(wrong...)
}

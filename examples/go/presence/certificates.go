package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// meshName is what every certificate of a mesh is for: peers are known by it, as their addresses change.
const meshName = "parley.mesh"

const (
	lookEvery = 5 * time.Second
	soon      = 24 * time.Hour
)

// certificateFiles are PEM: the certificate with those that stand between it and the authority, its key, and the authority or more while they change.
type certificateFiles struct{ cert, key, ca string }

// loaded is what the files had when they could be used last.
type loaded struct {
	certificate tls.Certificate
	leaf        *x509.Certificate
	authorities *x509.CertPool
}

// certificates are this process's own and the authority of its mesh, read again when the files change. Files that cannot be used do not replace those
// that could.
type certificates struct {
	files certificateFiles
	log   *slog.Logger

	mu    sync.Mutex
	now   *loaded
	seen  string // what the files had when they were last looked at, good or not
	fault string // why what they have is not in use
	told  []string
}

// newCertificates looks at the files, and then again and again for as long as the process lives.
func newCertificates(files certificateFiles, log *slog.Logger) *certificates {
	c := &certificates{files: files, log: log}
	c.look()
	go func() {
		for range time.Tick(lookEvery) {
			c.look()
		}
	}()
	return c
}

// present fails with a sentence where there never was one that could be used.
func (c *certificates) present() (*loaded, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return nil, errors.New(c.fault)
	}
	return c.now, nil
}

func (c *certificates) look() {
	err := c.load()
	c.mu.Lock()
	if err != nil {
		c.fault = err.Error()
	}
	c.mu.Unlock()
	told := append(c.problems(), c.warnings()...)
	for _, sentence := range told {
		if !slices.Contains(c.told, sentence) {
			c.log.Warn(sentence)
		}
	}
	c.told = told
}

func (c *certificates) load() error {
	var read [3][]byte
	for at, file := range []string{c.files.cert, c.files.key, c.files.ca} {
		bytes, err := os.ReadFile(file)
		if err != nil {
			c.seen = ""
			return fmt.Errorf("%s cannot be read: %w", file, err)
		}
		read[at] = bytes
	}
	seen := string(slices.Concat(read[0], read[1], read[2]))
	if seen == c.seen {
		return nil
	}
	c.seen = seen
	certificate, err := tls.X509KeyPair(read[0], read[1])
	if err != nil {
		return fmt.Errorf("%s with the key in %s cannot be used: %w", c.files.cert, c.files.key, err)
	}
	authorities := x509.NewCertPool()
	if block, _ := pem.Decode(read[2]); block == nil || !authorities.AppendCertsFromPEM(read[2]) {
		return fmt.Errorf("%s cannot be used: it has no certificate", c.files.ca)
	}
	leaf := certificate.Leaf
	c.mu.Lock()
	c.now, c.fault = &loaded{certificate, leaf, authorities}, ""
	c.mu.Unlock()
	c.log.Info("a certificate is in use for the mesh", "serialNumber", fmt.Sprintf("%X", leaf.SerialNumber.Bytes()), "validTo", leaf.NotAfter)
	return nil
}

// problems are why no peer takes it, a sentence each.
func (c *certificates) problems() (found []string) {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return []string{c.fault}
	}
	leaf, which, now := c.now.leaf, "the certificate in "+c.files.cert, time.Now()
	if !now.Before(leaf.NotAfter) {
		found = append(found, fmt.Sprintf("%s expired on %s", which, leaf.NotAfter))
	}
	if now.Before(leaf.NotBefore) {
		found = append(found, fmt.Sprintf("%s is not valid before %s", which, leaf.NotBefore))
	}
	if leaf.VerifyHostname(meshName) != nil {
		found = append(found, fmt.Sprintf("%s lacks the name %s", which, meshName))
	}
	for use, whom := range map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "servers", x509.ExtKeyUsageClientAuth: "clients"} {
		// One that does not say what it is for is for everything.
		if said := leaf.ExtKeyUsage; len(said) > 0 && !slices.Contains(said, use) && !slices.Contains(said, x509.ExtKeyUsageAny) {
			found = append(found, fmt.Sprintf("%s is not for %s", which, whom))
		}
	}
	return found
}

// warnings are what will be a problem unless somebody does something, a sentence each.
func (c *certificates) warnings() (found []string) {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return nil
	}
	if c.fault != "" {
		found = append(found, c.fault+"; the one before stays in use")
	}
	if left := time.Until(c.now.leaf.NotAfter); left > 0 && left <= soon {
		found = append(found, fmt.Sprintf("the certificate in %s expires on %s", c.files.cert, c.now.leaf.NotAfter))
	}
	return found
}

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	handshakeTime = 3 * time.Second
	// A server that refuses says why in these words, in the place of its first frame: TLS has no way to.
	refusalStart = "parley refuses: "
	refusalMax   = 1_024
	refusalTime  = time.Second
)

// meshTLS is TLS between the processes of one mesh: each side shows a certificate of its authority. What the files have is used for each new connection.
type meshTLS struct {
	certificates *certificates
	log          *slog.Logger
}

func (m meshTLS) config() (*tls.Config, *loaded, error) {
	now, err := m.certificates.present()
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{now.certificate},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		// A session that is taken up again would not have its certificate looked at again.
		SessionTicketsDisabled: true,
		// The server's is looked at by its name, a client's after the handshake, so that it is told why it is refused.
		RootCAs:    now.authorities,
		ServerName: meshName,
		ClientAuth: tls.RequestClientCert,
	}, now, nil
}

func (m meshTLS) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, _, err := m.config()
	if err != nil {
		return nil, nil, err
	}
	bounded, done := context.WithTimeout(ctx, handshakeTime)
	defer done()
	secured := tls.Client(raw, config)
	if err := secured.HandshakeContext(bounded); err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("it is not to be trusted: %w", err)
	}
	// Only now it is known whether the other side takes this one: its first frame comes by itself.
	secured.SetReadDeadline(time.Now().Add(handshakeTime))
	reader := bufio.NewReader(secured)
	first, err := reader.Peek(1)
	if err == nil && first[0] == refusalStart[0] {
		said, _ := io.ReadAll(io.LimitReader(reader, refusalMax))
		err = fmt.Errorf("it refuses this process: %s", strings.TrimPrefix(string(said), refusalStart))
	}
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	secured.SetReadDeadline(time.Time{})
	return begun{secured, reader}, infoOf(secured), nil
}

// begun is a connection of which something was read.
type begun struct {
	net.Conn
	reader *bufio.Reader
}

func (b begun) Read(into []byte) (int, error) { return b.reader.Read(into) }

func (m meshTLS) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, now, err := m.config()
	if err != nil {
		return nil, nil, err
	}
	bounded, done := context.WithTimeout(context.Background(), handshakeTime)
	defer done()
	secured := tls.Server(raw, config)
	if err := secured.HandshakeContext(bounded); err != nil {
		// Whoever only looks whether the port is open, or left.
		if !errors.Is(err, io.EOF) {
			m.log.Warn("a connection is not encrypted as it must be", "reason", err, "remote", raw.RemoteAddr().String())
		}
		return nil, nil, err
	}
	if reason := refusal(secured.ConnectionState().PeerCertificates, now.authorities); reason != "" {
		m.log.Warn("a peer was refused", "reason", reason, "remote", raw.RemoteAddr().String())
		secured.SetDeadline(time.Now().Add(refusalTime))
		io.WriteString(secured, refusalStart+reason)
		secured.CloseWrite()
		// What it sent must be read: unread, it would have the words taken back.
		io.Copy(io.Discard, secured)
		return nil, nil, errors.New(reason)
	}
	return secured, infoOf(secured), nil
}

// refusal is why the peer may not come in; "": it may.
func refusal(shown []*x509.Certificate, authorities *x509.CertPool) string {
	if len(shown) == 0 {
		return "no certificate was shown"
	}
	between := x509.NewCertPool()
	for _, one := range shown[1:] {
		between.AddCert(one)
	}
	options := x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := shown[0].Verify(options); err != nil {
		return "the certificate is not valid: " + err.Error()
	}
	if shown[0].VerifyHostname(meshName) != nil {
		return "the certificate lacks the name " + meshName
	}
	return ""
}

func infoOf(secured *tls.Conn) credentials.TLSInfo {
	return credentials.TLSInfo{
		State:          secured.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
}

func (m meshTLS) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: meshName}
}

func (m meshTLS) Clone() credentials.TransportCredentials { return m }

func (m meshTLS) OverrideServerName(string) error { return nil }

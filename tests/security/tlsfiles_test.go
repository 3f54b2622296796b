package security_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

func pemOf(t *testing.T, a *testtls.Authority, name string) string {
	t.Helper()
	text, err := os.ReadFile(a.File(name + ".pem"))
	require.NoError(t, err)
	return string(text)
}

// TestBundles: a bundle of authorities is whole, or an error.
func TestBundles(t *testing.T) {
	first, second := testtls.NewAuthority(t), testtls.NewAuthority(t)
	one, two := pemOf(t, first, "ca"), pemOf(t, second, "ca")
	file := first.File("bundle")
	key, err := os.ReadFile(second.File("ca.key"))
	require.NoError(t, err)
	read := func(text string) error {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := rafthttp.NewRoundTripper(transport.TLSInfo{TrustedCAFile: file}, 0)
		return err
	}
	for name, text := range map[string]string{
		"one": one, "two": one + two, "no line end": one + strings.TrimSpace(two),
		"white space": "\n \t\n" + one + "\r\n\n" + two + "\n\n", "carriage returns": strings.ReplaceAll(one+two, "\n", "\r\n"),
		"comments": "# ours\n" + one + "  # theirs\n#\n" + two + "# end",
	} {
		require.NoError(t, read(text), name)
	}
	for name, bad := range map[string]struct{ text, says string }{
		"empty":                   {"", "no certificate"},
		"only comments":           {"# nothing\n", "no certificate"},
		"text before":             {"ours\n" + one, "line 1: "},
		"text between":            {one + "\ntheirs\n" + two, "neither a certificate nor a comment"},
		"text after":              {one + two + "end", "neither a certificate nor a comment"},
		"zeros":                   {one + strings.Repeat("\x00", 4096) + two, "neither a certificate nor a comment"},
		"no end":                  {strings.Replace(one, "-----END CERTIFICATE-----", "", 1) + two, "line 1: "},
		"no beginning":            {one + strings.Replace(two, "-----BEGIN CERTIFICATE-----", "", 1), "neither"},
		"an end that is none":     {strings.Replace(one, "-----END", "-----ND", 1) + two, "line 1: "},
		"a beginning that is nil": {one + strings.Replace(two, "-----BEGIN", "-----BGIN", 1), "neither"},
		"base64 that is none":     {one + strings.Replace(two, "MII", "M!I", 1), "not whole"},
		"something else":          {one + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x509"},
		"a key":                   {one + string(key), "PRIVATE KEY"},
	} {
		err := read(bad.text)
		require.ErrorContains(t, err, bad.says, name)
		require.ErrorContains(t, err, file, name)
	}
	whole := strings.TrimSpace(two)
	for n := 1; n < len(whole); n++ {
		require.Error(t, read(one+whole[:n]), "%q", whole[:n])
	}
}

// TestCertificateFiles: a file of certificates is whole as well, but may have in
// it what tools write before a block.
func TestCertificateFiles(t *testing.T) {
	ca := testtls.NewAuthority(t)
	inter := intermediate(t, ca, time.Hour)
	info := inter.Member(t, 1)
	leaf, chain := pemOf(t, inter, "1"), pemOf(t, ca, "inter")
	key, err := os.ReadFile(info.KeyFile)
	require.NoError(t, err)
	read := func(text string) error {
		require.NoError(t, os.WriteFile(info.CertFile, []byte(text), 0o600))
		_, err := rafthttp.NewRoundTripper(info, 0)
		return err
	}
	const openssl = "Certificate:\n    Data:\n        Version: 3 (0x2)\n\tx\n"
	for name, text := range map[string]string{
		"a certificate": leaf, "a chain": leaf + chain, "text": openssl + leaf + "subject=CN=ca\n" + openssl + chain,
		"a key": leaf + string(key) + chain, "comments": "# 1\n" + leaf + "# ca\n" + chain + "\n# end\n",
	} {
		require.NoError(t, read(text), name)
	}
	whole := strings.TrimSpace(openssl + chain)
	for n := 1; n < len(whole); n++ {
		require.Error(t, read(leaf+whole[:n]), "%q", whole[:n])
	}
	require.ErrorContains(t, read(leaf+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "x509")
	require.ErrorContains(t, read(leaf+strings.Repeat("\x00", 100)+"\n"+chain), "line ")
}

// intermediate returns an authority of this one's, whose members have to show its
// certificate beside theirs. It is in the file inter.pem of this one's folder.
func intermediate(t *testing.T, a *testtls.Authority, life time.Duration) *testtls.Authority {
	t.Helper()
	inter := &testtls.Authority{Dir: t.TempDir()}
	inter.Cert, inter.Key = a.SignFor(t, "inter", interTemplate(), life)
	require.NoError(t, os.WriteFile(inter.File("ca.pem"), []byte(pemOf(t, a, "ca")), 0o600))
	return inter
}

func interTemplate() *x509.Certificate {
	return &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		Subject: pkix.Name{CommonName: "inter"}, SubjectKeyId: []byte{1, 2, 3},
	}
}

// renew writes another certificate for the key of an intermediate.
func renew(t *testing.T, a *testtls.Authority, inter *testtls.Authority, life time.Duration) {
	t.Helper()
	c := interTemplate()
	c.SerialNumber = big.NewInt(4711)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	der, err := x509.CreateCertificate(rand.Reader, c, a.Cert, inter.Key.Public(), a.Key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.File("inter.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// issueChain gives a member a certificate of an intermediate, and that one's.
func issueChain(s *testtls.Network, inter *testtls.Authority, id types.ID, chain string) {
	s.T.Helper()
	s.Issue(inter, id, time.Hour)
	writeChain(s, inter, id, chain)
}

// writeChain gives a member the certificate that it has, and another chain.
func writeChain(s *testtls.Network, inter *testtls.Authority, id types.ID, chain string) {
	s.T.Helper()
	s.Write(id, "pem", []byte(pemOf(s.T, inter, id.String())+chain))
}

// TestHalfWrittenBundle: members go on with the last whole one.
func TestHalfWrittenBundle(t *testing.T) {
	for _, file := range []string{"ca", "pem"} {
		t.Run(file, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				s, all, _ := testtls.StartAll(t, ca, logs)
				inter := intermediate(t, ca, time.Hour)
				for id := range types.ID(3) {
					issueChain(s, inter, id+1, pemOf(t, ca, "inter"))
					s.Trust(id+1, other, ca)
				}
				time.Sleep(3 * recheck)
				since := all[0].ActiveSince(2)
				text, err := os.ReadFile(s.File(1, file))
				require.NoError(t, err)
				second := bytes.LastIndex(text, []byte("-----BEGIN"))
				s.Write(1, file, text[:(second+len(text))/2])
				time.Sleep(5 * recheck)
				require.Equal(t, since, all[0].ActiveSince(2), "streams go on")
				all[0].UpdatePeer(2, []string{all[1].URL})
				all[1].UpdatePeer(1, []string{all[0].URL})
				time.Sleep(5 * time.Second)
				require.Equal(t, 2, all[0].ActivePeers())
				require.Equal(t, 2, all[1].ActivePeers())
				require.NotZero(t, lines.FilterMessage("cannot use a changed file of TLSInfo; going on with the last good one").Len())
			})
		})
	}
}

// TestRenewedIntermediate moves streams, as a renewed leaf does, and nothing is
// lost when the old one ends.
func TestRenewedIntermediate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
		s, all, _ := testtls.StartAll(t, ca, logs)
		inter := intermediate(t, ca, 2*time.Minute)
		end := time.Now().Add(2 * time.Minute)
		for id := range types.ID(3) {
			issueChain(s, inter, id+1, pemOf(t, ca, "inter"))
		}
		time.Sleep(3 * recheck)
		renewed := time.Now()
		lines.TakeAll()
		stop := load(t, all, 100*time.Millisecond, 1000)
		renew(t, ca, inter, time.Hour)
		for id := range types.ID(3) {
			writeChain(s, inter, id+1, pemOf(t, ca, "inter"))
		}
		time.Sleep(3 * recheck)
		require.Equal(t, 12, lines.FilterMessage("moved a stream to a connection with the peer's new certificate").Len())
		for _, m := range all {
			for _, p := range m.Status().Peers {
				for _, st := range p.Streams {
					require.Greater(t, st.Since, renewed)
				}
			}
		}
		moved := time.Now()
		time.Sleep(time.Until(end.Add(3 * recheck)))
		n := stop()
		time.Sleep(time.Second)
		for _, m := range all {
			require.Len(t, m.Recorder.Received(), int(4*n))
			for _, p := range m.Status().Peers {
				require.Zero(t, p.SendFailures+p.ReceiveFailures+p.Disconnects)
				for _, st := range p.Streams {
					require.Less(t, st.Since, moved, "once is enough")
				}
			}
		}
		warnings := lines.Filter(func(e observer.LoggedEntry) bool { return e.Level > zapcore.InfoLevel })
		require.Empty(t, warnings.All())
	})
}

// TestRenewedAuthority: another certificate for the same key and name vouches for
// what the older one did: nothing is cut.
func TestRenewedAuthority(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
		s, all, _ := testtls.StartAll(t, ca, logs)
		lines.TakeAll()
		stop := load(t, all, 100*time.Millisecond, 1000)
		template := *ca.Cert
		template.SerialNumber, template.NotAfter = big.NewInt(4711), time.Now().Add(48*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, ca.Key.Public(), ca.Key)
		require.NoError(t, err)
		again := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		s.Write(1, "ca", again) // the others follow later
		time.Sleep(5 * recheck)
		s.Write(2, "ca", again)
		s.Write(3, "ca", again)
		time.Sleep(5 * recheck)
		n := stop()
		time.Sleep(time.Second)
		for _, m := range all {
			require.Len(t, m.Recorder.Received(), int(4*n))
			for _, p := range m.Status().Peers {
				require.Zero(t, p.SendFailures+p.ReceiveFailures+p.Disconnects)
				for _, st := range p.Streams {
					require.EqualValues(t, 1, st.Connects, "nothing has to move")
				}
			}
		}
		require.Empty(t, lines.All())
	})
}

// TestWhatIsSaidOfARevocationList that cannot be read is what is done, and is
// said beside what is said of other files.
func TestWhatIsSaidOfARevocationList(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
		s, all, _ := testtls.StartAll(t, ca, logs)
		lastGood := func() int {
			return lines.FilterMessage("cannot use a changed file of TLSInfo; going on with the last good one").Len()
		}
		refusing := func() int {
			return lines.FilterMessage("cannot use the revocation list of TLSInfo; refusing new connections until it can be read").Len()
		}
		require.NoError(t, os.Remove(s.File(1, "crl")))
		time.Sleep(2 * recheck)
		require.Equal(t, 1, refusing())
		require.Zero(t, lastGood())
		require.Equal(t, 2, all[0].ActivePeers())
		for _, name := range []string{"ca", "pem"} {
			require.NoError(t, os.Remove(s.File(1, name)))
		}
		time.Sleep(2 * recheck)
		require.Equal(t, 1, refusing())
		require.Equal(t, 2, lastGood(), "one line for each file")
		time.Sleep(time.Minute)
		require.Equal(t, 2, refusing())
		require.True(t, slices.ContainsFunc(lines.All(), func(e observer.LoggedEntry) bool {
			return strings.Contains(e.ContextMap()["error"].(string), s.File(1, "crl"))
		}))
	})
}

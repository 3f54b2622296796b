package browsertest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// TestScreenshots takes pictures of the page for people to look at, into the
// folder that SCREENSHOTS names.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		t.Skip("SCREENSHOTS names no folder")
	}
	s := newScene(t, 5, func(tr *rafthttp.Transport) { tr.SnapshotRateLimit, tr.SendQueueMessages = slowSnapshots, 256 })
	s.talk(t, 64<<10, 5*time.Millisecond)
	s.waitActive(t)
	ctx := newTab(t)
	shoot(ctx, t, s.url, filepath.Join(dir, "light.png"), 1280, "light", 8*time.Second)
	shoot(ctx, t, s.url, filepath.Join(dir, "dark.png"), 1280, "dark", time.Second)
	shoot(ctx, t, s.url, filepath.Join(dir, "phone.png"), 390, "light", time.Second)

	slow := s.members[1] // answers late
	slow.mu.Lock()
	quick := slow.process
	slow.process = func(ctx context.Context, msg *raftpb.Message) error {
		time.AfterFunc(200*time.Millisecond, func() { _ = quick(ctx, msg) })
		return nil
	}
	slow.mu.Unlock()
	shoot(ctx, t, s.url, filepath.Join(dir, "slow.png"), 1280, "light", 10*time.Second) // docs/status.png, 1000 wide: convert -resize 1000x +dither -colors 255 -strip
	shoot(ctx, t, s.url, filepath.Join(dir, "slow-phone.png"), 390, "dark", time.Second)
	slow.mu.Lock()
	slow.process = quick
	slow.mu.Unlock()

	s.members[3].Stop()
	_ = s.members[3].server.Close()
	s.sendSnapshot(t, s.members[0], s.members[1], 16<<20)
	s.sendSnapshot(t, s.members[4], s.members[0], 12<<20)
	shoot(ctx, t, s.url, filepath.Join(dir, "down.png"), 1280, "light", 16*time.Second)

	m := s.members[0] // hangs at messages of peer 3
	m.mu.Lock()
	m.process = func(ctx context.Context, msg *raftpb.Message) error {
		if msg.GetFrom() == 3 {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	m.mu.Unlock()
	shoot(ctx, t, s.url, filepath.Join(dir, "sick.png"), 1280, "light", 10*time.Second)
	shoot(ctx, t, s.url, filepath.Join(dir, "sick-dark.png"), 1280, "dark", time.Second)
	shoot(ctx, t, s.url, filepath.Join(dir, "sick-phone.png"), 390, "dark", time.Second)
}

func shoot(ctx context.Context, t *testing.T, url, file string, width int64, scheme string, wait time.Duration) {
	t.Helper()
	var png []byte
	require.NoError(t, chromedp.Run(ctx,
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.EmulateViewport(width, 900, chromedp.EmulateScale(1.5)),
		chromedp.Navigate(url),
		chromedp.Sleep(wait),
		chromedp.FullScreenshot(&png, 100),
	))
	require.NoError(t, os.WriteFile(file, png, 0o600))
}

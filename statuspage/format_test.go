package statuspage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAmounts(t *testing.T) {
	for _, tt := range []struct {
		got, want string
	}{
		{bytesOf(0), "0 B"}, {bytesOf(1023), "1023 B"}, {bytesOf(1024), "1.00 KiB"}, {bytesOf(10 * 1024), "10.0 KiB"},
		{bytesOf(100 * 1024), "100 KiB"}, {bytesOf(1 << 20), "1.00 MiB"}, {bytesOf(5 << 40), "5.00 TiB"}, {bytesOf(5 << 50), "5120 TiB"},
		{count(999), "999"}, {count(1000), "1.00 k"}, {count(12345), "12.3 k"}, {count(5e6), "5.00 M"},
		{messageRate(nil), "–"}, {messageRate(new(0.0)), "0/s"}, {messageRate(new(0.25)), "0.2/s"}, {messageRate(new(1234.5)), "1.24 k/s"},
		{byteRate(nil), "–"}, {byteRate(new(1.5)), "2 B/s"},
		{duration(0), "0"}, {duration(-time.Second), "-1.0 s"}, {duration(5), "5 ns"}, {duration(1500), "2 µs"}, {duration(1500 * time.Microsecond), "1.5 ms"},
		{duration(15 * time.Millisecond), "15 ms"}, {duration(1500 * time.Millisecond), "1.5 s"}, {duration(15 * time.Second), "15 s"},
		{duration(90 * time.Second), "1 min 30 s"}, {duration(90 * time.Minute), "1 h 30 min"}, {duration(72 * time.Hour), "3 days"},
		{offset(0), "equal"}, {offset(time.Second), "1.0 s ahead"}, {offset(-time.Second), "1.0 s behind"},
		{percent(0), "0 %"}, {percent(0.001), "< 1 %"}, {percent(0.5), "50 %"},
		{short("8e9e05c52164694d", 7), "8e9…94d"}, {short("12345678", 8), "12345678"}, {short("123456789", 8), "1234…789"},
		{plain("a\x1b[31m\nb\u202ec"), "a\uFFFD[31m\uFFFDb\uFFFDc"},
		{ago(time.Unix(100, 0), time.Unix(40, 0)), "1 min 0 s ago"}, {ago(time.Unix(100, 0), time.Unix(100, 0)), "now"}, {ago(time.Now(), time.Time{}), "–"},
	} {
		require.Equal(t, tt.want, tt.got)
	}
}

package statuspage

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
)

// none is shown for unknown values.
const none = "–"

// amount writes v with a unit and three digits: 1.23 MiB.
func amount(v float64, step float64, units []string) string {
	i := 0
	for ; i < len(units)-1 && v >= step*0.9995; i++ {
		v /= step
	}
	switch {
	case i == 0 && v == math.Trunc(v), v >= 99.95:
		return fmt.Sprintf("%.0f%s", v, units[i])
	case v >= 9.995:
		return fmt.Sprintf("%.1f%s", v, units[i])
	default:
		return fmt.Sprintf("%.2f%s", v, units[i])
	}
}

func bytesOf(n float64) string {
	return amount(n, 1024, []string{" B", " KiB", " MiB", " GiB", " TiB"})
}

func count(n float64) string { return amount(n, 1000, []string{"", " k", " M", " G"}) }

func byteRate(r *float64) string {
	if r == nil {
		return none
	}
	return bytesOf(math.Round(*r)) + "/s"
}

func messageRate(r *float64) string {
	if r == nil {
		return none
	}
	if *r < 10 && *r > 0 {
		return fmt.Sprintf("%.1f/s", *r)
	}
	return count(math.Round(*r)) + "/s"
}

// duration writes d with its two largest units.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + duration(-d)
	case d == 0:
		return "0"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// offset writes a clock offset in words.
func offset(d time.Duration) string {
	switch {
	case d > 0:
		return duration(d) + " ahead"
	case d < 0:
		return duration(-d) + " behind"
	default:
		return "equal"
	}
}

// ago writes how long before now t was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return none
	}
	if d := now.Sub(t); d >= time.Second {
		return duration(d) + " ago"
	}
	return "now"
}

// plain makes external text safe for a terminal: one line, without control
// characters.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// short limits the length of a member's id or name in the picture.
func short(s string, limit int) string {
	r := []rune(s)
	if len(r) <= limit {
		return s
	}
	head := (limit - 1) / 2
	return string(r[:head+(limit-1)%2]) + "…" + string(r[len(r)-head:])
}

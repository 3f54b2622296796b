package protocol

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is the relevant part of a semantic version.
type Version struct{ Major, Minor int }

// Less reports whether v is lower than w.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || (v.Major == w.Major && v.Minor < w.Minor)
}

// ParseVersion reads a semantic version: major.minor.patch, which may be
// followed by a pre-release (-) and metadata (+).
func ParseVersion(s string) (Version, error) {
	rest, metadata, _ := strings.Cut(s, "+")
	core, preRelease, _ := strings.Cut(rest, "-")
	parts := strings.Split(core, ".")
	if len(s) > 128 || len(parts) != 3 || !isIdentifier(preRelease) || !isIdentifier(metadata) {
		return Version{}, notVersion(s)
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return Version{}, notVersion(s)
		}
		n[i] = int(v)
	}
	return Version{n[0], n[1]}, nil
}

func notVersion(s string) error { return fmt.Errorf("not a semantic version: %.128q", s) }

// isIdentifier reports whether s has only characters that may follow the numbers of a
// semantic version.
func isIdentifier(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-')
	})
}

package errs

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestPlain(t *testing.T) {
	for _, c := range [][2]string{
		{"connection refused", "connection refused"},
		{"valid for a\nok\r\n\x1b[2J, not b", "valid for a ok  ?[2J, not b"},
		{"größer \xff \u202e", "größer ? ?"},
		{strings.Repeat("x", 20), strings.Repeat("x", 20)},
		{strings.Repeat("x", 21), strings.Repeat("x", 17) + "…"},
		{strings.Repeat("ö", 11), strings.Repeat("ö", 8) + "…"},
	} {
		got := Plain(c[0], 20)
		if len(c[0]) > 20 && len(c[1]) > 20 {
			got = Plain(c[0], 100)
		}
		require.Equal(t, c[1], got)
		require.True(t, utf8.ValidString(got))
	}
}

func TestPlainError(t *testing.T) {
	require.Equal(t, io.EOF, PlainError(io.EOF))
	long := fmt.Errorf("%s: %w", strings.Repeat("name\n", 1<<15), io.EOF)
	err := PlainError(long)
	require.ErrorIs(t, err, io.EOF)
	require.LessOrEqual(t, len(err.Error()), MaxPlain)
	require.NotContains(t, err.Error(), "\n")
	require.Equal(t, long, errors.Unwrap(err))
}

package bubble

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRoomsAreOfTheLibrary: calls in any internal package are the library's, except for those in packages for tests.
func TestRoomsAreOfTheLibrary(t *testing.T) {
	rooms, err := os.ReadDir("..")
	require.NoError(t, err)
	for _, room := range rooms {
		forTests := room.Name() == "bubble" || room.Name() == "stacks" || strings.HasPrefix(room.Name(), "test")
		c := call{function: module + "/internal/" + room.Name() + ".(*T).Method", at: "/" + room.Name() + "/file.go:1"}
		require.Equal(t, !forTests, c.isLibrary(), room.Name())
	}
	require.False(t, call{module + "/tests/delivery_test.TestX", "/tests/delivery/x_test.go:1"}.isLibrary())
	require.True(t, call{module + ".(*Transport).Send", "/transport.go:1"}.isLibrary())
}

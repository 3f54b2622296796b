package main

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A command line that cannot work is refused with the flag's name, and leaves nothing behind.
func TestCommandLine(t *testing.T) {
	for _, wrong := range []string{"", "1", "x=https://a:1", "0=https://a:1", "1=https://a:1,1=https://b:1", "1="} {
		_, err := parseCluster(wrong)
		require.Error(t, err, wrong)
	}
	cluster, err := parseCluster("1=https://a:1,2=https://b:1")
	require.NoError(t, err)
	require.Equal(t, map[uint64]string{1: "https://a:1", 2: "https://b:1"}, cluster)

	data := filepath.Join(t.TempDir(), "data")
	for _, id := range []uint64{0, 3} {
		require.ErrorContains(t, serve(t.Context(), config{id: id, cluster: cluster, data: data}), "-cluster")
	}
	require.NoDirExists(t, data)

	// A member that has lost its log is told so, and does not begin anew.
	require.ErrorIs(t, serve(t.Context(), config{id: 1, cluster: cluster, data: data, client: "127.0.0.1:0"}), errNoLog)
	require.NoDirExists(t, data)

	// One that has no port for clients, such as when it runs already, makes no log.
	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer other.Close()
	require.ErrorContains(t, serve(t.Context(), config{id: 1, cluster: cluster, data: data, found: true, client: other.Addr().String()}), "in use")
	require.NoDirExists(t, data)
}

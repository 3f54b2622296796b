package golden_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/compat/golden"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
)

func TestMain(m *testing.M) {
	code := m.Run()
	member.RemoveHelper()
	os.Exit(code)
}

// TestStoredVectorsAreCurrent captures all vectors anew: what is stored must be what upstream writes.
func TestStoredVectorsAreCurrent(t *testing.T) {
	for _, version := range golden.Versions {
		t.Run(version.Dir, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			captured, err := golden.Capture(ctx, version.Kind, version.Writer)
			require.NoError(t, err)
			dir := t.TempDir()
			for _, v := range captured {
				require.NoError(t, v.Write(dir))
			}
			want, err := golden.Read(dir)
			require.NoError(t, err)
			got, err := golden.Read("../../internal/wire/testdata/golden/captured/" + version.Dir)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// TestAppendVectorHasThePredictions: each example of the msgapp v2 stream was written as the type that it is an example of.
func TestAppendVectorHasThePredictions(t *testing.T) {
	for _, version := range golden.Versions {
		vectors, err := golden.Read("../../internal/wire/testdata/golden/captured/" + version.Dir)
		require.NoError(t, err)
		for _, v := range vectors {
			if v.Name != "msgapp" {
				continue
			}
			examples := traffic.Appends(golden.From, golden.To)
			require.Len(t, v.Records, len(examples))
			for i, example := range examples {
				require.NotNil(t, v.Records[i].Type)
				require.Equal(t, example.Predicted, *v.Records[i].Type == 1, example.What)
			}
		}
	}
}

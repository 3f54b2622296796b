package statuspage

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sections are the headings of docs/status.md below which the fields of a type are.
var sections = map[string]string{
	"report": "## JSON", "application": "### `application`", "Fact": "### `application`", "peerReport": "### `peers[]`", "laneReport": "### `peers[]`",
	"Status": "### `status`", "PeerStatus": "### `status.peers[]`", "LaneStatus": "### `status.peers[].lanes[]`",
	"SnapshotStatus": "### A snapshot in `status`", "HandshakeStatus": "### `status`",
	"groupsReport": "### `groups`", "GroupStatus": "### `groups`", "ReplicaStatus": "### `groups`",
	"GroupsStatus": "### `status.groups`", "ProcessingStatus": "### `status.groups`", "GroupSnapshots": "### `status.peers[]`",
}

// section returns what is below a heading, or all.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	if heading == "" {
		return page
	}
	_, below, found := strings.Cut(page, "\n"+heading+"\n")
	require.True(t, found, heading)
	below, _, _ = strings.Cut(below, "\n#")
	return below
}

// TestDocs: docs/status.md has every field of the JSON, where it is.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/status.md")
	require.NoError(t, err)
	fields := 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch {
		case typ == reflect.TypeFor[time.Time]():
		case typ.Kind() == reflect.Slice, typ.Kind() == reflect.Pointer:
			walk(typ.Elem())
		case typ.Kind() == reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous || name != "" && name != "-" {
					if name != "" {
						require.Contains(t, section(t, string(page), sections[typ.Name()]), "`"+name+"`", "field %s of %s", f.Name, typ)
						fields++
					}
					walk(f.Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[report]())
	require.Greater(t, fields, 50)
}

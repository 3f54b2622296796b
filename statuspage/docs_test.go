package statuspage

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDocs: docs/status.md has every field of the JSON.
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
				if f.Anonymous || name != "" {
					if name != "" {
						require.Contains(t, string(page), "`"+name+"`", "field %s of %s", f.Name, typ)
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

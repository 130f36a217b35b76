package engine_test

import (
	"testing"

	"xuncha/server/internal/engine"
)

func TestBeyond(t *testing.T) {
	end := engine.Beyond("device/")
	for name, below := range map[string]bool{"device/": true, "device/\U0010ffff": true, "device/\xff": true, "device0": false, "password/": false} {
		if got := name < end; got != below {
			t.Errorf("%q before %q: got %v", name, end, got)
		}
	}
}

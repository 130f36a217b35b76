package rpc

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestThumbnailTurns holds that callers take turns however many calls of one wait, that what is long
// leaves room for what is quick, and that whoever leaves the line is in nobody's way.
func TestThumbnailTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newTurns(2)
		var served []string
		end := map[string]func(){}
		wait := func(ctx context.Context, caller, name string, long bool) {
			go func() {
				done, err := line.take(ctx, caller, long)
				if err == nil {
					served, end[name] = append(served, name), done
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		want := func(names ...string) {
			t.Helper()
			if !slices.Equal(served, names) {
				t.Fatalf("got %v, want %v", served, names)
			}
			served = nil
		}
		finish := func(name string) {
			end[name]()
			synctest.Wait()
		}
		ctx := t.Context()
		leaving, leave := context.WithCancel(ctx)
		wait(ctx, "a", "a long", true)
		wait(ctx, "a", "a 2nd long", true)
		wait(ctx, "a", "a1", false)
		want("a long", "a1") // the second that is long waits for the first, and is passed
		wait(ctx, "a", "a2", false)
		wait(ctx, "a", "a3", false)
		wait(leaving, "c", "c", false)
		wait(ctx, "b", "b long", true)
		wait(ctx, "b", "b1", false)
		leave()
		synctest.Wait()
		finish("a1")
		want("a2")
		finish("a2")
		want("b1")
		finish("b1")
		want("a3")
		finish("a3")
		want() // both that are left are long
		finish("a long")
		want("b long") // for a was served since
		wait(ctx, "d", "d", false)
		want("d")
		finish("b long")
		want("a 2nd long")
		finish("d")
		finish("a 2nd long")
		if line.free != 2 || line.long || len(line.waiting) != 0 {
			t.Errorf("left: %d free, %v, %d lines", line.free, line.long, len(line.waiting))
		}
	})
}

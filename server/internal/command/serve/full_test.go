package serve

import (
	"testing"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// That the disk is full is a problem until it has room again.
func TestNoteFull(t *testing.T) {
	problems := new(rpc.Problems)
	note := noteFull(problems)
	for _, full := range []bool{true, true, false, false, true} {
		note(full)
		all := problems.All()
		if full && (len(all) != 1 || all[0].Kind != xunchav1.ProblemKind_PROBLEM_KIND_STORE_FULL || all[0].Message == "") || !full && len(all) != 0 {
			t.Errorf("full is %v: got %+v", full, all)
		}
	}
}

package command_test

import (
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestRevokedEverywhere ensures that another start, another server of the same database,
// the check and a copy all know what was taken back.
func TestRevokedEverywhere(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, store ...string) {
		address, stop := serveOn(t, store...)
		ids := fill(t, address)
		conn := connect(t, address)
		roster := xunchav1.NewRosterServiceClient(conn)
		get := func(m proto.Message, err error) string {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return prototext.Format(m)
		}
		submit(t, conn, newCheckIn(ids[0]))
		order, err := roster.ListClosureOrders(t.Context(), &xunchav1.ListClosureOrdersRequest{})
		if err != nil || len(order.ClosureOrders) != 1 {
			t.Fatal(order, err)
		}
		// The order, and then the import of the sites.
		for _, revision := range []int64{order.ClosureOrders[0].Revision, 2} {
			if _, err := roster.RevokeChange(t.Context(), &xunchav1.RevokeChangeRequest{Revision: revision, Reason: "by mistake"}); err != nil {
				t.Fatal(err)
			}
		}
		answers := func(address string) (out []string) {
			t.Helper()
			conn := connect(t, address)
			roster := xunchav1.NewRosterServiceClient(conn)
			list, err := roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{})
			out = append(out, get(list, err))
			if len(list.GetSites()) != 0 {
				t.Errorf("%d sites are listed, want none", len(list.Sites))
			}
			orders, err := roster.ListClosureOrders(t.Context(), &xunchav1.ListClosureOrdersRequest{})
			out = append(out, get(orders, err))
			changes, err := roster.ListChanges(t.Context(), &xunchav1.ListChangesRequest{})
			out = append(out, get(changes, err))
			history, err := xunchav1.NewAuditServiceClient(conn).ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: ids[0], IncludeRecords: true})
			return append(out, get(history, err))
		}
		want := answers(address)
		same := func(what, address string) {
			t.Helper()
			for i, got := range answers(address) {
				if got != want[i] {
					t.Errorf("%s: got\n%s\nwant\n%s", what, got, want[i])
				}
			}
		}
		stop()
		address, stop = serveOn(t, store...)
		same("another start", address)
		stop()
		from := store[len(store)-1]
		if out, _, err := xuncha(t, append([]string{"check"}, store...)...); err != nil {
			t.Errorf("the check: %s %v", out, err)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if _, _, err := xuncha(t, "copy", "--from", from, "--to", copied); err != nil {
			t.Fatal(err)
		}
		address, _ = serveFolder(t, copied)
		same("a copy", address)
	})
}

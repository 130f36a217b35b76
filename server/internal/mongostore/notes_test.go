package mongostore

import (
	"testing"
	"time"
)

// The database tells its own time, which is close to ours where it runs on this machine.
func TestDatabaseTime(t *testing.T) {
	for name, uri := range map[string]string{
		"a server": server.Database(t), "one shard": standIn(t).Database(t), "a router": standIn(t, "-shards=2").Database(t),
	} {
		s := openAt(t, uri)
		const apart = 5 * time.Second // it may be on its way for so long
		got, err := s.DatabaseTime(t.Context())
		if now := time.Now(); err != nil || got.Sub(now).Abs() > apart {
			t.Errorf("%s: got %v, %v, want about %v", name, got, err, now)
		}
	}
}

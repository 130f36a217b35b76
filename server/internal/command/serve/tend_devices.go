package serve

import (
	"context"
	"time"

	"xuncha/server/internal/accounts"
)

const (
	// devicesAtOnce is how many devices are looked at with one read of the store.
	devicesAtOnce = 200
	// devicesARound is how many are looked at in an hour, so that no round takes long. What
	// is left has its turn in the next one.
	devicesARound = 20_000
)

// tendDevices starts what removes the devices that are signed out, every hour.
func (r *Running) tendDevices(people *accounts.Service) {
	r.running.Go(func() {
		for next := ""; ; {
			next = r.forgetDevices(r.beside, people, next)
			if !sleep(r.beside, tendEvery) {
				return
			}
		}
	})
}

// forgetDevices makes a round that begins behind a device, and returns where the next one
// does. What has expired is judged by the time that is believed: nothing goes because a clock
// has jumped.
func (r *Running) forgetDevices(ctx context.Context, people *accounts.Service, next string) string {
	believed, ok := r.time.Believed()
	if !ok {
		believed = time.Time{}
	}
	removed := 0
	for seen := 0; seen < devicesARound; {
		f, err := people.ForgetDevices(ctx, next, devicesAtOnce, believed)
		removed += f.Removed
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("removing devices that are signed out failed; it is tried again within the hour", "error", err.Error())
			}
			break
		}
		seen, next = seen+f.Seen, f.Next
		if next == "" {
			break
		}
	}
	if removed > 0 {
		r.log.Info("devices that are signed out are removed", "removed", removed)
	}
	return next
}

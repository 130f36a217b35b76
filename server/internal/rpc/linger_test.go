package rpc

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"

	xunchav1 "xuncha/proto/xuncha/v1"
)

var uploadInfo = &tap.Info{FullMethodName: xunchav1.PhotoService_UploadPhoto_FullMethodName}

// TestLinger holds when the context of an upload ends whose connection has broken
// off.
func TestLinger(t *testing.T) {
	for _, test := range []struct {
		name string
		work time.Duration // between the end of the connection and the next read
		want time.Duration // from there to the end of the upload's context
	}{
		{"WhoReadsFindsNothing", 0, lingerFor},
		{"WhoWorksReadsOn", 10 * time.Second, 10*time.Second + lingerFor},
		{"WhoWorksForTooLong", 2 * time.Minute, lingerAtMost},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connected, hangUp := context.WithCancel(t.Context())
				ctx := must(linger(connected, uploadInfo))(t)
				defer letGo(ctx)
				var took time.Duration
				go func() {
					hungUp := time.Now()
					<-ctx.Done()
					took = time.Since(hungUp)
				}()
				hangUp()
				time.Sleep(test.work)
				_, _ = readNext(ctx, func() (int, error) {
					<-ctx.Done()
					return 0, ctx.Err()
				})
				synctest.Wait()
				if took != test.want || ctx.Err() == nil {
					t.Errorf("it ended after %s with %v, want %s", took, ctx.Err(), test.want)
				}
			})
		})
	}
}

// A finishedStream is the stream of an upload in the context.
type finishedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s finishedStream) Context() context.Context { return s.ctx }

// TestUploadLetsGo holds that nothing of an upload is held once its method has
// returned, whether its connection breaks off before, after or never.
func TestUploadLetsGo(t *testing.T) {
	w := newServer(t)
	c := &calls{config: &w.config, lines: NewCallLog(slog.New(slog.DiscardHandler)), newID: func() string { return "id" }, now: w.clock}
	for _, when := range []string{"before", "after", "never"} {
		connected, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		upload := func() weak.Pointer[lingering] {
			ctx := must(linger(connected, uploadInfo))(t)
			err := c.stream(struct{}{}, finishedStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: uploadInfo.FullMethodName}, func(_ any, s grpc.ServerStream) error {
				if when == "before" {
					hangUp()
				}
				_, err := readNext(s.Context(), func() (int, error) { return 0, io.EOF })
				if err == io.EOF {
					return nil
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			if ctx.Err() == nil {
				t.Errorf("%s: its context has not ended", when)
			}
			return weak.Make(ctx.(*lingering))
		}()
		if when == "after" {
			hangUp()
		}
		waitFor(t, "the end of what is held of an upload that is cut "+when, func() bool {
			runtime.GC()
			return upload.Value() == nil
		})
	}
}

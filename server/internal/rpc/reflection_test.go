package rpc

import (
	"testing"

	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"xuncha/server/internal/accounts"
)

// TestReflection holds who is told what methods there are.
func TestReflection(t *testing.T) {
	const nobody, noAccounts = "nobody", "without accounts"
	for _, test := range []struct {
		mode Reflection
		want map[string]codes.Code // by who asks
	}{
		{"", map[string]codes.Code{nobody: codes.OK, "root": codes.OK, noAccounts: codes.OK}},
		{ReflectionOpen, map[string]codes.Code{nobody: codes.OK, "root": codes.OK, noAccounts: codes.OK}},
		{ReflectionToken, map[string]codes.Code{nobody: codes.Unauthenticated, "root": codes.OK, noAccounts: codes.OK}},
		{ReflectionOff, map[string]codes.Code{nobody: codes.Unimplemented, "root": codes.Unimplemented, noAccounts: codes.Unimplemented}},
	} {
		mode := func(c *Config) { c.Reflection = test.mode }
		open, closed := newWorldWith(t, mode), newWorldWith(t, mode)
		closed.create(t, "root", accounts.Admin, "511600")
		for who, want := range test.want {
			w, ctx := closed, t.Context()
			switch who {
			case "root":
				ctx = with(ctx, w.signIn(t, "root"))
			case noAccounts:
				w = open
			}
			stream := must(reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(ctx))(t)
			_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}) // Recv says why
			if _, err := stream.Recv(); status.Code(err) != want {
				t.Errorf("%q, %s: got %v, want %v", test.mode, who, err, want)
			}
		}
	}
}

// TestReflectionEnds ensures that a stream of reflection ends with the account that it is of.
func TestReflectionEnds(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.Reflection = ReflectionToken })
	w.create(t, "root", accounts.Admin, "511600")
	head := w.create(t, "head", accounts.Head, "511600")
	stream := must(reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(with(t.Context(), w.signIn(t, "head"))))(t)
	ask := func() error {
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		_, err := stream.Recv()
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, head.ID))(t)
	if err := ask(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("after the account was disabled: got %v, want %v", err, codes.Unauthenticated)
	}
}

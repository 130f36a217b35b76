package rpc

import (
	"context"

	"google.golang.org/grpc"
)

// An admitting server registers services so that no message of a call is read before its
// caller is admitted. grpc's own interceptor of methods with one request gets that request
// when it has been read and unpacked.
type admitting struct {
	*grpc.Server
	calls *calls
}

// RegisterService implements grpc.ServiceRegistrar.
func (s admitting) RegisterService(d *grpc.ServiceDesc, service any) {
	admitted := *d
	admitted.Methods = make([]grpc.MethodDesc, len(d.Methods))
	for i, m := range d.Methods {
		method, serve := "/"+d.ServiceName+"/"+m.MethodName, m.Handler
		admitted.Methods[i] = grpc.MethodDesc{
			MethodName: m.MethodName,
			Handler: func(service any, ctx context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				return s.calls.unary(ctx, method, receiveOnly, func(ctx context.Context, read func(any) error) (any, error) {
					return serve(service, ctx, read, nil)
				})
			},
		}
	}
	s.Server.RegisterService(&admitted, service)
}

// unary wraps a call with one request and one response. receive reads the request once the
// caller is admitted, and serve does what the method does with what its read has read.
func (c *calls) unary(ctx context.Context, method string, receive func(ctx context.Context, m any, most int) error,
	serve func(ctx context.Context, read func(any) error) (any, error)) (resp any, err error) {
	err = c.observe(ctx, method, func(o *observed) error {
		ctx, row, err := c.admit(ctx, o, method)
		if err != nil {
			return err
		}
		defer c.settle(ctx)
		var (
			req     any
			refused error
		)
		resp, err = serve(ctx, func(m any) error {
			req = m
			if s := o.on.streamOf(); !s.Whole() {
				o.within(ctx, row.requestTime())
				defer s.Done()
			}
			if refused = receive(ctx, m, c.config.longest(&row)); refused == nil {
				refused = c.check(ctx, row, m)
			}
			return refused
		})
		switch {
		case refused != nil:
			return refused
		case err != nil:
			return c.complete(req, err)
		}
		if row.open && !row.standard {
			o.on.know() // it has got a token just now
		}
		return c.record(ctx, method, row, req)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

package rpc

import (
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// A Reflection says who may ask the server what services and messages there are.
type Reflection string

// The zero Reflection is ReflectionOpen.
const (
	// ReflectionOpen answers everybody.
	ReflectionOpen Reflection = "open"
	// ReflectionToken answers those who have an access token, once there are accounts.
	ReflectionToken Reflection = "token"
	// ReflectionOff does not offer the service.
	ReflectionOff Reflection = "off"
)

// standard returns who may call a method that is none of ours.
func (c *Config) standard(method string) access {
	if c.Reflection == ReflectionToken && strings.HasPrefix(method, "/grpc.reflection.") && c.Accounts.Any() {
		return access{standard: true, roles: anyone}
	}
	return access{standard: true, open: true}
}

// methodNames returns the full names of all methods of the services.
func methodNames(services map[string]grpc.ServiceInfo) map[string]bool {
	out := map[string]bool{}
	for name, service := range services {
		for _, m := range service.Methods {
			out["/"+name+"/"+m.Name] = true
		}
	}
	return out
}

// A reflector answers reflection as grpc does, but writes each file once. grpc writes a file and
// all that it imports anew for each question, which takes milliseconds of a processor, and
// anybody may ask.
type reflector struct {
	reflectionv1.ServerReflectionServer // grpc's own
	// written has the files that were asked for, by their paths.
	written sync.Map
}

// registerReflection offers reflection in both versions, whose messages are the same but for
// the name of their package.
func registerReflection(s reflection.GRPCServer) {
	r := &reflector{ServerReflectionServer: reflection.NewServerV1(reflection.ServerOptions{Services: s})}
	reflectionv1.RegisterServerReflectionServer(s, r)
	alpha := reflectionv1.ServerReflection_ServiceDesc
	alpha.ServiceName = "grpc.reflection.v1alpha.ServerReflection"
	alpha.Metadata = "grpc/reflection/v1alpha/reflection.proto"
	s.RegisterService(&alpha, r)
}

// ServerReflectionInfo implements reflectionv1.ServerReflectionServer.
func (r *reflector) ServerReflectionInfo(stream reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	return r.ServerReflectionServer.ServerReflectionInfo(&fileStream{stream, r, map[string]bool{}})
}

// A fileStream answers by itself what is asked for a file, and leaves all else to grpc: also
// to say that there is no such file.
type fileStream struct {
	reflectionv1.ServerReflection_ServerReflectionInfoServer
	reflector *reflector
	sent      map[string]bool // the paths of the files that the caller has
}

// Recv returns the next question that is not for a file.
func (s *fileStream) Recv() (*reflectionv1.ServerReflectionRequest, error) {
	for {
		in, err := s.ServerReflection_ServerReflectionInfoServer.Recv()
		if err != nil {
			return nil, err
		}
		file := askedFor(in)
		if file == nil {
			return in, nil
		}
		files, err := s.reflector.files(file, s.sent)
		if err != nil {
			return nil, err
		}
		err = s.Send(&reflectionv1.ServerReflectionResponse{
			ValidHost: in.Host, OriginalRequest: in,
			MessageResponse: &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
				FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: files},
			},
		})
		if err != nil {
			return nil, err
		}
	}
}

// askedFor returns the file that is asked for, or nil for none.
func askedFor(in *reflectionv1.ServerReflectionRequest) protoreflect.FileDescriptor {
	switch asked := in.MessageRequest.(type) {
	case *reflectionv1.ServerReflectionRequest_FileByFilename:
		if file, err := protoregistry.GlobalFiles.FindFileByPath(asked.FileByFilename); err == nil {
			return file
		}
	case *reflectionv1.ServerReflectionRequest_FileContainingSymbol:
		if d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(asked.FileContainingSymbol)); err == nil {
			return d.ParentFile()
		}
	case *reflectionv1.ServerReflectionRequest_FileContainingExtension:
		x, err := protoregistry.GlobalTypes.FindExtensionByNumber(
			protoreflect.FullName(asked.FileContainingExtension.GetContainingType()), protoreflect.FieldNumber(asked.FileContainingExtension.GetExtensionNumber()))
		if err == nil {
			return x.TypeDescriptor().ParentFile()
		}
	}
	return nil
}

// files returns the file, and those that it imports which the caller does not have yet, each as
// a FileDescriptorProto.
func (r *reflector) files(file protoreflect.FileDescriptor, sent map[string]bool) (out [][]byte, err error) {
	queued := map[string]bool{file.Path(): true}
	for queue := []protoreflect.FileDescriptor{file}; len(queue) > 0; queue = queue[1:] {
		next := queue[0]
		if next.IsPlaceholder() {
			continue
		}
		if next == file || !sent[next.Path()] {
			sent[next.Path()] = true
			b, err := r.write(next)
			if err != nil {
				return nil, err
			}
			out = append(out, b)
		}
		for i := range next.Imports().Len() {
			if f := next.Imports().Get(i).FileDescriptor; !queued[f.Path()] {
				queued[f.Path()] = true
				queue = append(queue, f)
			}
		}
	}
	return out, nil
}

// write returns the file as a FileDescriptorProto. There are only so many files: those that
// the program is built with.
func (r *reflector) write(file protoreflect.FileDescriptor) ([]byte, error) {
	if b, ok := r.written.Load(file.Path()); ok {
		return b.([]byte), nil
	}
	b, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
	if err == nil {
		r.written.Store(file.Path(), b)
	}
	return b, err
}

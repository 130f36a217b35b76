package rpc

import (
	"strings"

	"google.golang.org/grpc"
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

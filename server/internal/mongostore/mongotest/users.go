package mongotest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Enforces reports whether the server that the environment names asks its users to
// sign in.
func (s *Server) Enforces() bool { return strings.Contains(s.uri, "@") }

// Users makes an empty database, the roles that are given as createRole commands in
// JSON for a database named of, each for that one instead, and a user for each role. It
// returns the database's addresses for the users, by the names of the roles. All of it
// goes when the test ends.
func (s *Server) Users(tb testing.TB, of string, roles []string) (addresses map[string]string, err error) {
	tb.Helper()
	scheme, rest, _ := strings.Cut(s.Database(tb), "://")
	rest, query, _ := strings.Cut(rest, "?")
	hosts, name, _ := strings.Cut(rest[strings.LastIndex(rest, "@")+1:], "/")
	// The users are those of the database admin, whatever the address says of its own.
	kept := []string{"authSource=admin"}
	for option := range strings.SplitSeq(query, "&") {
		if option != "" && !strings.HasPrefix(option, "authSource=") {
			kept = append(kept, option)
		}
	}
	addresses = map[string]string{}
	ctx, cancel := context.WithTimeout(tb.Context(), electionTimeout)
	defer cancel()
	return addresses, s.with(ctx, "", func(admin *mongo.Database) error {
		for _, text := range roles {
			var command bson.D
			text = strings.ReplaceAll(text, fmt.Sprintf(`"db": %q`, of), fmt.Sprintf(`"db": %q`, name))
			if err := bson.UnmarshalExtJSON([]byte(text), false, &command); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
			role := fmt.Sprint(command[0].Value)
			command[0].Value = role + "_" + name // others may test on the same server
			if err := admin.RunCommand(ctx, command).Err(); err != nil {
				return fmt.Errorf("making the role %s: %w", role, err)
			}
			user, password := role+"_of_"+name, rand.Text()
			err := admin.RunCommand(ctx, bson.D{
				{Key: "createUser", Value: user}, {Key: "pwd", Value: password}, {Key: "roles", Value: bson.A{command[0].Value}},
			}).Err()
			if err != nil {
				return fmt.Errorf("making a user with the role %s: %w", role, err)
			}
			tb.Cleanup(func() { s.dropUser(tb, user, command[0].Value) })
			addresses[role] = fmt.Sprintf("%s://%s:%s@%s/%s?%s", scheme, user, password, hosts, name, strings.Join(kept, "&"))
		}
		return nil
	})
}

func (s *Server) dropUser(tb testing.TB, user string, role any) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := s.with(ctx, "", func(admin *mongo.Database) error {
		return errors.Join(
			admin.RunCommand(ctx, bson.D{{Key: "dropUser", Value: user}}).Err(),
			admin.RunCommand(ctx, bson.D{{Key: "dropRole", Value: role}}).Err(),
		)
	})
	if err != nil {
		tb.Errorf("dropping the user %s: %v", user, err)
	}
}

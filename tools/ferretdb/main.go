// Command ferretdb runs FerretDB v1, a MongoDB-compatible server on SQLite,
// for the tests of the MongoDB engine. It is no part of the product, and never
// offered as a database to keep anything in.
//
// It listens on a TCP address or on a Unix socket, prints one line with the
// URI to connect to once clients can, and serves until SIGINT or SIGTERM. Then
// it gives connected clients three seconds to leave; a second signal does not.
// Nothing else is opened, and nothing is reported to anybody.
//
// What was acknowledged survives kill -9 and a power cut, apart from the
// creation of databases, collections and indexes: that takes several
// transactions, and a kill between two of them can leave a collection that
// cannot be used or a folder with which the server does not start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	data := flag.String("data", "", "folder of the SQLite files, made if it is missing")
	tcp := flag.String("listen", "", `TCP address to listen on; port 0 is any free one (default "127.0.0.1:0" without --unix)`)
	unix := flag.String("unix", "", "path of a Unix socket to listen on instead")
	flag.Parse()

	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := run(ctx, *data, *tcp, *unix, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, data, tcp, unix string, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case data == "":
		return errors.New("--data is needed")
	case tcp != "" && unix != "":
		return errors.New("--listen and --unix exclude each other")
	case tcp == "" && unix == "":
		tcp = "127.0.0.1:0"
	}
	storage, err := sqliteURI(data)
	if err != nil {
		return err
	}
	if unix != "" {
		if unix, err = filepath.Abs(unix); err != nil {
			return err
		}
		if err := removeStaleSocket(unix); err != nil {
			return err
		}
	}
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: tcp, Unix: unix},
		Handler:   "sqlite",
		SQLiteURL: storage,
	})
	if err != nil {
		return err
	}
	// The listener is open since New; a client that comes before Run waits.
	uri := db.MongoDBURI()
	if unix != "" {
		// Drivers want the socket's path escaped, which MongoDBURI leaves out.
		uri = "mongodb://" + url.QueryEscape(unix) + "/"
	}
	fmt.Println("listening", uri)
	return db.Run(ctx)
}

// sqliteURI names the data folder and how SQLite is to write there: every
// commit is on the disk before it is acknowledged, and a writer waits for the
// others instead of failing.
func sqliteURI(data string) (string, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	options := url.Values{"_pragma": {
		"busy_timeout(60000)", // before journal_mode, which takes a lock
		"journal_mode(wal)",
		"synchronous(full)",
		"fullfsync(true)", // macOS: past the drive's own cache
		"checkpoint_fullfsync(true)",
	}}
	folder := url.URL{Scheme: "file", Path: filepath.ToSlash(data) + "/", OmitHost: true, RawQuery: options.Encode()}
	return folder.String(), nil
}

// removeStaleSocket removes the socket file that a killed server left behind,
// and refuses to take it from one that still listens.
func removeStaleSocket(path string) error {
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and no socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("a server is listening on %s", path)
	}
	return os.Remove(path)
}

// The roles that docs/mongodb.md describes, for an administrator to run in mongosh.
// They are for a database with the name xuncha. Each call is one JSON document, which
// a test reads too.

// A server, and every command that may make the schema.
db.adminCommand({
  "createRole": "xunchaServer",
  "privileges": [
    {
      "resource": {"db": "xuncha", "collection": ""},
      "actions": ["find", "insert", "update", "remove", "listIndexes", "createCollection", "createIndex", "enableSharding"]
    },
    {"resource": {"db": "config", "collection": "collections"}, "actions": ["find"]}
  ],
  "roles": []
});

// A server with --keep-schema.
db.adminCommand({
  "createRole": "xunchaServerKeepSchema",
  "privileges": [
    {
      "resource": {"db": "xuncha", "collection": ""},
      "actions": ["find", "insert", "update", "remove", "listIndexes"]
    },
    {"resource": {"db": "config", "collection": "collections"}, "actions": ["find"]}
  ],
  "roles": []
});

// xuncha copy --from.
db.adminCommand({
  "createRole": "xunchaReader",
  "privileges": [
    {"resource": {"db": "xuncha", "collection": ""}, "actions": ["find"]}
  ],
  "roles": []
});

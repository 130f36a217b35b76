package table

// A Column is one that a table can have.
type Column struct {
	// Name is the column's name in the API.
	Name string
	// Aliases are other names that a header may have.
	Aliases []string
	// Required columns must be there; their cells may still be empty.
	Required bool
}

// Divisions are the columns of a table of divisions.
var Divisions = []Column{
	{"code", []string{"代码", "区划代码", "统计用区划代码"}, true},
	{"name", []string{"名称", "区划名称"}, true},
	{"level", []string{"级别", "层级"}, true},
	{"parent_code", []string{"上级代码", "父级代码"}, true},
}

// Sites are the columns of a table of sites.
var Sites = []Column{
	{"registration_no", []string{"登记证号", "登记编号"}, true},
	{"name", []string{"名称", "场所名称"}, true},
	{"division_code", []string{"区划代码", "村级区划代码", "所属区划代码"}, true},
	{"address", []string{"地址", "场所地址"}, false},
	{"latitude", []string{"纬度"}, false},
	{"longitude", []string{"经度"}, false},
	{"registered_on", []string{"登记日期"}, true},
	{"deregistered_on", []string{"注销日期"}, false},
}

// Links are the columns of a table that says who accounts are for an identity provider.
var Links = []Column{
	{"username", []string{"用户名", "账号"}, true},
	{"subject", []string{"主体标识", "用户标识", "sub"}, true},
}

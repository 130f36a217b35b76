package disk

// A change is one of names in one folder, which happens or does not. A nil node is no
// name any more.
type change struct {
	folder *node
	edits  []edit
	// after is a change that survives where this one does.
	after *change
}

type edit struct {
	name string
	node *node
}

// note makes a change and notes that it is not durable.
func (d *Disk) note(c *change) *change {
	for _, e := range c.edits {
		if old := c.folder.names[e.name]; old != nil {
			old.links--
		}
		if e.node == nil {
			delete(c.folder.names, e.name)
			continue
		}
		e.node.links++
		e.node.label = e.name
		c.folder.names[e.name] = e.node
	}
	d.changes = append(d.changes, c)
	return c
}

// rename gives a node another name, in place of whatever had that name.
func (d *Disk) rename(from *node, name string, to *node, newName string) {
	moved := from.names[name]
	if from == to {
		d.note(&change{folder: from, edits: []edit{{newName, moved}, {name, nil}}})
		return
	}
	there := d.note(&change{folder: to, edits: []edit{{newName, moved}}})
	d.note(&change{folder: from, edits: []edit{{name, nil}}, after: there})
}

// makeDurable makes the changes durable that are wanted, and those that they need: the
// earlier ones of the same names, and those that they come after. It returns how many.
func (d *Disk) makeDurable(wanted func(i int, c *change) bool) int {
	type place struct {
		folder *node
		name   string
	}
	needed, chosen := map[place]bool{}, map[*change]bool{}
	for i := len(d.changes) - 1; i >= 0; i-- {
		c := d.changes[i]
		choose := chosen[c] || wanted(i, c)
		for _, e := range c.edits {
			choose = choose || needed[place{c.folder, e.name}]
		}
		if !choose {
			continue
		}
		chosen[c] = true
		for _, e := range c.edits {
			needed[place{c.folder, e.name}] = true
		}
		if c.after != nil {
			chosen[c.after] = true
		}
	}
	var rest []*change
	made := 0
	for _, c := range d.changes {
		if !chosen[c] {
			rest = append(rest, c)
			continue
		}
		made++
		for _, e := range c.edits {
			if e.node == nil {
				delete(c.folder.durable, e.name)
			} else {
				c.folder.durable[e.name] = e.node
			}
		}
	}
	d.changes = rest
	return made
}

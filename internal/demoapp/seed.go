package demoapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver of the tenants' databases
)

const (
	seedTimeout  = 10 * time.Second
	seedInvoices = 14
)

const schema = `
CREATE TABLE IF NOT EXISTS company (name TEXT NOT NULL, city TEXT NOT NULL, currency TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS customers (
	id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, contact TEXT NOT NULL, since TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS invoices (
	id INTEGER PRIMARY KEY, number TEXT NOT NULL UNIQUE, customer_id INTEGER NOT NULL REFERENCES customers (id),
	issued_on TEXT NOT NULL, due_on TEXT NOT NULL, amount_cents INTEGER NOT NULL, status TEXT NOT NULL);`

// profile is what one company's books are made of.
type profile struct {
	city, currency string
	customers      [][3]string // name, city, contact
}

// profileOf has books of its own for the demo's tenants and makes up others. No customer is in two of them, so that a
// row of another tenant shows at a glance.
func profileOf(name string, random *rand.Rand) profile {
	key, _, _ := strings.Cut(strings.ToLower(name), " ")
	switch key {
	case "acme":
		return profile{"Hamburg", "EUR", [][3]string{
			{"Nordlicht Bäckerei", "Kiel", "Jette Petersen"},
			{"Fahrradhaus Elbe", "Hamburg", "Tom Reuter"},
			{"Klinik am Stadtpark", "Lübeck", "Dr. Aylin Kaya"},
			{"Hafenkontor Voss", "Bremen", "Henrik Voss"},
			{"Sonnenhof Gärtnerei", "Lüneburg", "Maike Brandt"},
			{"Weinhandlung Kupfer", "Mainz", "Clara Kupfer"},
		}}
	case "globex":
		return profile{"Portland", "USD", [][3]string{
			{"Cascade Outfitters", "Bend", "Priya Raman"},
			{"Juniper & Pine Coffee", "Seattle", "Malik Johnson"},
			{"Blue Heron Dental", "Eugene", "Dana Whitfield"},
			{"Summit Robotics", "Boise", "Kenji Watanabe"},
			{"Redwood Charter School", "Eureka", "Elena Morales"},
			{"Columbia River Freight", "Vancouver", "Owen Gallagher"},
		}}
	case "initech":
		return profile{"Austin", "USD", [][3]string{
			{"Lone Star Printing", "Waco", "Rosa Delgado"},
			{"Bluebonnet Bank", "Dallas", "Walter Hughes"},
			{"Pecan Street Books", "Austin", "Naomi Carter"},
			{"Gulf Shore Supply", "Galveston", "Andre Baptiste"},
			{"Hill Country Solar", "Fredericksburg", "June Schreiner"},
		}}
	case "umbrella":
		return profile{"Edinburgh", "GBP", [][3]string{
			{"Arthur's Seat Hostel", "Edinburgh", "Fiona Baird"},
			{"Leith Boatworks", "Leith", "Callum Reid"},
			{"Tay Valley Textiles", "Dundee", "Isla McLaren"},
			{"Granite City Optics", "Aberdeen", "Ewan Stewart"},
			{"Skye Distillers", "Portree", "Morag MacLeod"},
		}}
	}
	return madeUp(name, random)
}

func madeUp(name string, random *rand.Rand) profile {
	trades := []string{"Studio", "Logistics", "Foods", "Partners", "Instruments", "Textiles", "Labs", "Workshop"}
	cities := []string{"Lyon", "Porto", "Gdańsk", "Utrecht", "Bergen", "Turku", "Graz", "Brno"}
	people := []string{"Ana Silva", "Piotr Zając", "Noor de Vries", "Ingrid Dahl", "Marc Lefèvre", "Eva Horáková"}
	p := profile{city: cities[random.IntN(len(cities))], currency: "EUR"}
	for i := range 5 {
		p.customers = append(p.customers, [3]string{
			name + " client " + string(rune('A'+i)) + " " + trades[random.IntN(len(trades))],
			cities[random.IntN(len(cities))], people[random.IntN(len(people))],
		})
	}
	return p
}

// SeedTenant makes the SQLite database at path, an absolute path, with the books of a company of that name: always the
// same for the same name, different for different ones. The file is for its owner alone (0600). A database that has its
// company already is left as it is.
func SeedTenant(ctx context.Context, path, name string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make tenant database: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("make tenant database: %w", err)
	}
	db, err := sql.Open("sqlite", dataSource(path, "rw"))
	if err != nil {
		return fmt.Errorf("open tenant database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("open tenant database: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := fill(ctx, tx, name); err != nil {
		return fmt.Errorf("fill tenant database: %w", err)
	}
	return tx.Commit()
}

func fill(ctx context.Context, tx *sql.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	var companies int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM company").Scan(&companies); err != nil || companies > 0 {
		return err
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name))
	random := rand.New(rand.NewPCG(hash.Sum64(), 1))
	p := profileOf(name, random)
	if _, err := tx.ExecContext(ctx, "INSERT INTO company VALUES (?, ?, ?)", name, p.city, p.currency); err != nil {
		return err
	}
	for i, c := range p.customers {
		since := 2019 + random.IntN(7)
		if _, err := tx.ExecContext(ctx, "INSERT INTO customers VALUES (?, ?, ?, ?, ?)", i+1, c[0], c[1], c[2], fmt.Sprint(since)); err != nil {
			return err
		}
	}
	return fillInvoices(ctx, tx, name, len(p.customers), random)
}

// fillInvoices writes some months of invoices, the newest first: those open, of the next some overdue, the others paid.
func fillInvoices(ctx context.Context, tx *sql.Tx, name string, customers int, random *rand.Rand) error {
	letters := strings.ToUpper(strings.Map(func(r rune) rune {
		if r < 'A' || r > 'z' || r > 'Z' && r < 'a' {
			return -1
		}
		return r
	}, name)) + "XXX"
	issued := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for i := range seedInvoices {
		status := "paid"
		switch {
		case i < 3:
			status = "open"
		case i < 7 && i%2 == 0:
			status = "overdue"
		}
		n := seedInvoices - i
		_, err := tx.ExecContext(ctx, "INSERT INTO invoices VALUES (?, ?, ?, ?, ?, ?, ?)",
			n, fmt.Sprintf("%s-%04d", letters[:3], 1040+n), 1+random.IntN(customers),
			issued.Format(time.DateOnly), issued.AddDate(0, 0, 30).Format(time.DateOnly), 4_900+random.Int64N(820_000), status)
		if err != nil {
			return err
		}
		issued = issued.AddDate(0, 0, -8-random.IntN(8))
	}
	return nil
}

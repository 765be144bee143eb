package auth

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

func kidOf(ring *keyring) string { return ring.signing.Load().kid }

func TestKeysAreMadeOnceHoweverManyStartAtOnce(t *testing.T) {
	host := openHost(t)
	rings := make([]*keyring, 8)
	var group sync.WaitGroup
	for i := range rings {
		group.Go(func() {
			ring, err := loadKeyring(context.Background(), host, testKeyset(t), time.Now())
			if err != nil {
				t.Error(err)
			}
			rings[i] = ring
		})
	}
	group.Wait()
	for _, ring := range rings[1:] {
		if ring == nil || kidOf(ring) != kidOf(rings[0]) || !bytes.Equal(ring.macs[0], rings[0].macs[0]) || len(ring.macs) != 1 {
			t.Fatal("replicas hold different keys")
		}
	}
	for _, purpose := range []string{purposeSessionMAC, purposeAssertion} {
		rows, err := host.Keys.List(context.Background(), purpose)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%s: %d rows, %v", purpose, len(rows), err)
		}
	}
}

func TestKeysOpenWithAnOlderMasterSecretAndNotWithAStrangeOne(t *testing.T) { // FAIL-1
	host := openHost(t)
	ctx := context.Background()
	old := seal.GenerateSecret().Reveal()
	ring, err := loadKeyring(ctx, host, testKeyset(t, old), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := loadKeyring(ctx, host, testKeyset(t, seal.GenerateSecret().Reveal(), old), time.Now())
	if err != nil || kidOf(rotated) != kidOf(ring) {
		t.Fatalf("after adding a first line: %v", err)
	}
	if _, err := loadKeyring(ctx, host, testKeyset(t), time.Now()); !errors.Is(err, seal.ErrOtherSecret) {
		t.Fatalf("with a strange secret: %v", err)
	}
	rows, err := host.Keys.List(ctx, purposeSessionMAC)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d rows: a strange secret must not make keys of its own (%v)", len(rows), err)
	}
}

func TestSealedKeyMovedToAnotherRowDoesNotOpen(t *testing.T) {
	host := openHost(t)
	ctx := context.Background()
	k := testKeyset(t)
	plain := bytes.Repeat([]byte{7}, sealing.MACKeyBytes)
	_, err := host.Keys.Ensure(ctx, purposeSessionMAC, func() (string, string, error) {
		sealed, err := k.Seal("sys_keys/"+purposeSessionMAC+"/another-id", plain)
		return catalog.GenID(), sealed, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeyring(ctx, host, k, time.Now()); !errors.Is(err, seal.ErrBroken) {
		t.Fatalf("moved key: %v", err)
	}
}

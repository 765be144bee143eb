package sealing

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

func TestKeysOfAPurposeAreMadeOnceAndBelongToItAlone(t *testing.T) {
	host, secrets := openHost(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db")), keyset(t, line())
	first, err := MACKeys(t.Context(), host, secrets, "this")
	if err != nil || len(first) != 1 || len(first[0]) != MACKeyBytes {
		t.Fatalf("%d keys, %v", len(first), err)
	}
	again, err := MACKeys(t.Context(), host, secrets, "this")
	if err != nil || len(again) != 1 || !bytes.Equal(again[0], first[0]) {
		t.Fatalf("read again: %d keys, %v", len(again), err)
	}
	other, err := MACKeys(t.Context(), host, secrets, "that")
	if err != nil || bytes.Equal(other[0], first[0]) {
		t.Fatalf("two purposes, one key: %v", err)
	}
	if _, err := ReadKeys(t.Context(), host, secrets, "none"); err == nil {
		t.Error("a purpose without a key has one")
	}
	if _, err := MACKeys(t.Context(), host, keyset(t, line()), "this"); !errors.Is(err, seal.ErrOtherSecret) {
		t.Errorf("under a strange secret: %v", err)
	}
	if rows, err := host.Keys.List(t.Context(), "this"); err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v: a strange secret must not make keys of its own", len(rows), err)
	}
}

func TestKeyOfAnotherLengthMakesNoMAC(t *testing.T) {
	host, secrets := openHost(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db")), keyset(t, line())
	_, err := host.Keys.Ensure(t.Context(), "short", func() (string, string, error) { return SealKey(secrets, "short", []byte("short")) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MACKeys(t.Context(), host, secrets, "short"); err == nil {
		t.Error("taken")
	}
}

func TestKeyMovedToAnotherPurposeDoesNotOpen(t *testing.T) {
	host, secrets := openHost(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db")), keyset(t, line())
	_, err := host.Keys.Ensure(t.Context(), "that", func() (string, string, error) {
		_, sealed, err := SealKey(secrets, "this", bytes.Repeat([]byte{7}, MACKeyBytes))
		return catalog.GenID(), sealed, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MACKeys(t.Context(), host, secrets, "that"); !errors.Is(err, seal.ErrBroken) {
		t.Errorf("moved: %v", err)
	}
}

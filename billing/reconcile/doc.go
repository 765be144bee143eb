// Package reconcile compares what stands in the host database with what Stripe has, and repairs what was missed.
//
// Purpose: webhooks can be lost for longer than Stripe repeats them, and somebody may change rows by hand. Subscriptions
// (Run) and plans (SyncPlans) are looked at whole, each repair is audited, and a dry run says exactly what would be done.
// Whose a subscription is and what its state means is package ledger's to say; nothing here decides it.
//
// Concurrency: any number may run at once, beside webhooks; they do the same work twice and no harm. Memory is bounded:
// one page of a list at a time, and for subscriptions a list of their ids.
//
// Failure mode: what was repaired stays repaired, and what was not is left as it was. One object that cannot be read or
// repaired is reported and keeps no other from it. A key of the other mode, or of another account, changes nothing.
package reconcile

const WINDOW_MS = 60_000
const MAX_WRONG = 20
const MAX_ADDRESSES = 10_000

/**
 * Slows down guessing: an address that presented 20 different wrong keys within a minute must wait for its end.
 * Different ones, because a dashboard that polls with an outdated key guesses nothing and must not lock out
 * everyone else behind the same address.
 */
export class Guesses {
  private readonly seen = new Map<string, { hashes: Set<string>; until: number }>()
  private readonly now: () => number

  constructor(now: () => number = Date.now) {
    this.now = now
  }

  /** Seconds to wait; 0: go on. */
  blockedFor(ip: string): number {
    const entry = this.seen.get(network(ip))
    if (!entry || entry.hashes.size < MAX_WRONG) return 0
    return Math.max(0, Math.ceil((entry.until - this.now()) / 1000))
  }

  wrong(ip: string, hash: string): void {
    const address = network(ip)
    let entry = this.seen.get(address)
    if (!entry || entry.until <= this.now()) {
      this.seen.delete(address)
      if (this.seen.size >= MAX_ADDRESSES) this.forgetOldest()
      entry = { hashes: new Set(), until: this.now() + WINDOW_MS }
      this.seen.set(address, entry)
    }
    if (entry.hashes.size < MAX_WRONG) entry.hashes.add(hash)
  }

  private forgetOldest(): void {
    const oldest = this.seen.keys().next()
    if (!oldest.done) this.seen.delete(oldest.value)
  }
}

/** An IPv6 client owns a whole /64, so that is what counts. */
function network(ip: string): string {
  if (!ip.includes(':') || ip.startsWith('::')) return ip
  return ip.split(':').slice(0, 4).join(':')
}

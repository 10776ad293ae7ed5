import type { Code } from '../codes.ts'
import { shorten } from '../words.ts'

/** Keys of well-known services, by the prefix that they give them so that they can be found. */
const KEY =
  /\b(?:sk-[\w-]{20,}|AKIA[0-9A-Z]{16}\b|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,}|glpat-[\w-]{20}|eyJ[\w-]{10,4096}\.eyJ[\w-]{10,4096}\.[\w-]{10,})/
/** Where one may begin: looked for first, as that is quick. */
const KEY_START = /sk-|AKIA|gh[pousr]_|github_pat_|xox|AIza|hf_|glpat-|eyJ|-----BEGIN/
const PRIVATE_KEY = /-----BEGIN (?:[A-Z]{1,20} ){0,2}PRIVATE KEY-----/
const PHONE = /(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])/g
const CARD = /(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])/g
/** Around an "@": as much of an address as is looked at. */
const BEFORE_AT = /[\w.+%-]{1,64}$/
const AFTER_AT = /^(?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,24}/i
/** Names that nobody has: RFC 2606. */
const RESERVED = /(?:^|\.)(?:example\.(?:com|net|org)|(?:example|test|invalid|localhost))$/i

/** What the scan has seen of a text: each kind of secret needs something of it. */
export interface Signs {
  hasLongWord: boolean
  hasDigits: boolean
  hasAtSign: boolean
}

/** What in a text looks as if it should not be learned; messages go on after the field's name. */
export function secretsOf(text: string, signs: Signs): [code: Code, what: string][] {
  const found: [Code, string][] = []
  if (signs.hasLongWord && KEY_START.test(text)) {
    const key = KEY.exec(text)
    if (key) found.push(['secret_key', `holds what looks like an API key (${masked(key[0])})`])
    if (PRIVATE_KEY.test(text)) found.push(['private_key', 'holds a private key'])
  }
  if (signs.hasAtSign) {
    const address = emailIn(text)
    if (address) found.push(['email_address', `holds an e-mail address (${masked(address)})`])
  }
  if (signs.hasDigits) {
    const card = first(text, CARD, isCard)
    if (card) found.push(['card_number', `holds what looks like the number of a payment card (${masked(card)})`])
    // Numbers of films and examples have 555.
    const phone = first(text, PHONE, (number) => !number.includes('555'))
    if (phone) found.push(['phone_number', `holds what looks like a phone number (${masked(phone)})`])
  }
  return found
}

function first(text: string, pattern: RegExp, accept: (found: string) => boolean): string | null {
  pattern.lastIndex = 0
  for (let found = pattern.exec(text); found !== null; found = pattern.exec(text)) if (accept(found[0])) return found[0]
  return null
}

/** Enough to find it by; not enough to use it. */
const masked = (secret: string) => `"${secret.slice(0, 4)}…", ${shorten(String(secret.length), 9)} characters`

function emailIn(text: string): string | null {
  for (let at = text.indexOf('@'); at !== -1; at = text.indexOf('@', at + 1)) {
    const before = BEFORE_AT.exec(text.slice(Math.max(0, at - 64), at))
    const after = before && AFTER_AT.exec(text.slice(at + 1, at + 255))
    if (after && !RESERVED.test(after[0])) return `${before[0]}@${after[0]}`
  }
  return null
}

/** The first digits that card schemes have, and the check digit of ISO/IEC 7812 (Luhn). */
function isCard(number: string): boolean {
  const digits = number.replace(/\D/g, '')
  if (!/^(?:3[47]\d{13}|4\d{12}(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|6(?:011|5\d\d)\d{12})$/.test(digits)) return false
  let sum = 0
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i])
    sum += i % 2 === 0 ? digit : digit > 4 ? 2 * digit - 9 : 2 * digit
  }
  return sum % 10 === 0
}

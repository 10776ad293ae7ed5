import { SCOPES } from '@mlx-training/contract'
import { describe, expect, test } from 'vitest'
import { createKeyCheck } from '../../src/auth/check.ts'
import { Guesses } from '../../src/auth/guesses.ts'
import { allows, generateKey, hashKey, keyId } from '../../src/auth/keys.ts'
import type { ApiKey } from '../../src/store/port.ts'

test('a key carries its id and 256 random bits; the record has neither key nor secret', () => {
  const { key, record } = generateKey('ci', ['train'])
  expect(key).toMatch(/^mt_[0-9a-f]{12}_[0-9a-f]{64}$/)
  expect(keyId(key)).toBe(record.id)
  expect(record.hash).toBe(hashKey(key))
  expect(JSON.stringify(record)).not.toContain(key.slice(-64))
  expect(new Set(Array.from({ length: 100 }, () => generateKey('x', []).key)).size).toBe(100)
})

test('scopes include each other as the contract says', () => {
  const table = SCOPES.map((has) => SCOPES.filter((needed) => allows([has], needed)))
  expect(table).toEqual([['read'], ['read', 'train'], ['read', 'generate'], ['read', 'train', 'generate', 'admin']])
  expect(allows([], 'read')).toBe(false)
})

test('a key ends at its time', async () => {
  const { key, record } = generateKey('x', ['read'], new Date('2030-01-01T00:00:00Z'))
  let now = Date.parse('2029-12-31T23:59:59Z')
  const check = createKeyCheck(
    { key: async (id) => (id === record.id ? (record as ApiKey) : null), keyUsed: async () => {} },
    hashKey('a'),
    () => now,
  )
  expect(await check(key, '1.1.1.1')).toMatchObject({ id: record.id, scopes: ['read'] })
  now += 1000
  await expect(check(key, '1.1.1.1')).rejects.toThrow('expired at 2030')
})

test('its use is noted once a minute, and a disk that is full does not matter', async () => {
  const { key, record } = generateKey('x', ['read'])
  let now = Date.parse('2030-01-01T00:00:00Z')
  const noted: string[] = []
  const keyUsed = async (_id: string, at: string) => {
    noted.push(at)
    record.lastUsedAt = at
    if (noted.length === 2) throw new Error('the disk is full')
  }
  const check = createKeyCheck({ key: async () => record, keyUsed }, hashKey('a'), () => now)
  for (const passed of [0, 30_000, 29_999, 1]) {
    now += passed
    await check(key, '1.1.1.1')
  }
  expect(noted).toEqual(['2030-01-01T00:00:00.000Z', '2030-01-01T00:01:00.000Z'])
})

describe('guesses', () => {
  const many = (guesses: Guesses, ip: string, count: number) => {
    for (let i = 0; i < count; i++) guesses.wrong(ip, `${ip} ${i}`)
  }

  test('20 different wrong keys block an address until their minute is over', () => {
    let now = 0
    const guesses = new Guesses(() => now)
    many(guesses, '1.1.1.1', 19)
    expect(guesses.blockedFor('1.1.1.1')).toBe(0)
    many(guesses, '1.1.1.1', 20)
    expect(guesses.blockedFor('1.1.1.1')).toBe(60)
    expect(guesses.blockedFor('2.2.2.2')).toBe(0)
    now = 60_000
    expect(guesses.blockedFor('1.1.1.1')).toBe(0)
    many(guesses, '1.1.1.1', 1)
    expect(guesses.blockedFor('1.1.1.1')).toBe(0)
  })

  test('addresses of one IPv6 network count as one', () => {
    const guesses = new Guesses()
    for (let i = 0; i < 20; i++) guesses.wrong(`2001:db8:1:2::${i}`, `${i}`)
    expect(guesses.blockedFor('2001:db8:1:2:9:9:9:9')).toBeGreaterThan(0)
    expect(guesses.blockedFor('2001:db8:1:3::1')).toBe(0)
  })

  test('memory is bounded', () => {
    const guesses = new Guesses(() => 0)
    many(guesses, 'first', 20)
    for (let i = 0; i < 10_000; i++) guesses.wrong(`ip ${i}`, 'x')
    expect(guesses.blockedFor('first')).toBe(0)
  })
})

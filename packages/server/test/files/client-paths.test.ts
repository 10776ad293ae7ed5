import { execFileSync } from 'node:child_process'
import { renameSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ServiceError } from '@mlx-training/contract'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createClientPaths } from '../../src/files/client-paths.ts'

let base: string
let root: string
let outside: string
beforeEach(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'paths-')))
  root = join(base, 'root')
  outside = join(base, 'outside')
  await mkdir(join(root, 'sub'), { recursive: true })
  await mkdir(outside)
  await writeFile(join(root, 'data.json'), 'inside')
  await writeFile(join(root, 'sub', 'rows.jsonl'), 'inside')
  await writeFile(join(outside, 'secret.json'), 'secret')
})
afterEach(() => rm(base, { recursive: true, force: true }))

const paths = () => createClientPaths(root)

async function contents(path: string, roots = [root]): Promise<string> {
  const { handle, size } = await paths().openFile(path, roots)
  try {
    const text = await handle.readFile('utf8')
    expect(size).toBe(text.length)
    return text
  } finally {
    await handle.close()
  }
}
const refusal = async (attempt: Promise<unknown>) => {
  const error = await attempt.then(
    () => new Error('it was allowed'),
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(ServiceError)
  return error as ServiceError
}
const code = async (attempt: Promise<unknown>) => (await refusal(attempt)).code

describe('openFile', () => {
  it('opens files under a root: relative, absolute, with dots, through links that stay inside', async () => {
    await symlink(join(root, 'sub'), join(root, 'link'))
    await symlink(root, join(base, 'alias'))
    for (const path of [
      'data.json',
      './sub/../data.json',
      join(root, 'data.json'),
      'link/rows.jsonl',
      join(base, 'alias/data.json'),
    ])
      expect(await contents(path)).toBe('inside')
    expect(await contents('data.json', [join(base, 'alias')])).toBe('inside')
  })

  it('tells the path that it looked for and a near name', async () => {
    const error = await refusal(paths().openFile('dta.json', [root]))
    expect(error.code).toBe('not_found')
    expect(error.message).toBe(`No file at "${join(root, 'dta.json')}". Did you mean "${join(root, 'data.json')}"?`)
    expect((await refusal(paths().openFile('nowhere/x.json', [root]))).message).toBe(
      `No file at "${join(root, 'nowhere/x.json')}": "${join(root, 'nowhere')}" does not exist.`,
    )
    expect((await refusal(paths().openFile('data.json/x', [root]))).message).toMatch(
      /data\.json" is a file, not a folder\.$/,
    )
  })

  it('names the roots and the setting when a path is outside', async () => {
    const error = await refusal(paths().openFile('../outside/secret.json', [root]))
    expect(error.code).toBe('forbidden')
    expect(error.message).toContain(
      `"${join(outside, 'secret.json')}" is outside the folders that this server may use: ${root}.`,
    )
    expect(error.message).toContain('MLX_TRAINING_DATASET_ROOTS')
  })

  it('never tells whether something exists outside', async () => {
    await symlink(join(outside, 'secret.json'), join(root, 'there'))
    await symlink(join(outside, 'nothing.json'), join(root, 'not-there'))
    await symlink('../outside', join(root, 'folder'))
    const said = async (path: string) => (await refusal(paths().openFile(path, [root]))).toBody()
    const alike = async (one: string, two: string) =>
      expect(JSON.stringify(await said(one)).replaceAll(one, two)).toBe(JSON.stringify(await said(two)))
    await alike('there', 'not-there')
    await alike('folder/secret.json', 'folder/nothing.json')
    await alike(join(outside, 'secret.json'), join(outside, 'nothing.json'))
    await alike('/etc/passwd', '/etc/nothing')
  })

  it('takes regular files only, and does not wait on a FIFO', async () => {
    execFileSync('mkfifo', [join(root, 'fifo')])
    const server = createServer().listen(join(root, 'socket'))
    await new Promise((listening) => server.once('listening', listening))
    try {
      for (const [path, kind] of [
        ['sub', 'folder'],
        ['fifo', 'FIFO'],
        ['socket', 'socket'],
      ] as const) {
        const error = await refusal(paths().openFile(path, [root]))
        expect([error.code, error.message]).toEqual([
          'invalid_path',
          `"${join(root, path)}" is a ${kind}, not a regular file.`,
        ])
      }
    } finally {
      await new Promise((closed) => server.close(closed))
    }
  })

  it('keeps out of /proc, /sys and /dev even when the root is /', async () => {
    await symlink('/dev/zero', join(root, 'zeros.json'))
    for (const path of ['/proc/self/environ', '/dev/zero', '/dev/null', '/sys/kernel', 'zeros.json', '/proc/nothing'])
      expect(await code(paths().openFile(path, ['/']))).toBe('forbidden')
    expect(await contents('data.json', ['/'])).toBe('inside')
  })

  it.runIf(process.platform === 'linux')('sees through /proc links', async () => {
    expect(await code(paths().openFile(`/proc/self/root${outside}/secret.json`, [root]))).toBe('forbidden')
  })

  it('refuses what can be no path', async () => {
    for (const path of ['', 'a\0b', '~/data.json', '~', 'x'.repeat(256), 'x/'.repeat(3000)])
      expect(await code(paths().openFile(path, [root]))).toBe('invalid_path')
    expect((await refusal(paths().openFile('~/data.json', [root]))).message).toContain('"~", which is not expanded')
  })

  it('ends on loops of links', async () => {
    await symlink('loop', join(root, 'loop'))
    await symlink('grow/grow', join(root, 'grow'))
    expect(await code(paths().openFile('loop', [root]))).toBe('not_found')
    expect(await code(paths().openFile('grow/grow/x', [root]))).toBe('not_found')
  })

  it('tells that a file can not be read', async () => {
    await chmod(base, 0o755)
    await chmod(join(root, 'data.json'), 0)
    const user = process.geteuid?.()
    // Nothing is unreadable to root: be nobody for a moment.
    if (user === 0) process.seteuid?.(65534)
    try {
      const error = await refusal(paths().openFile('data.json', [root]))
      expect([error.code, error.message]).toEqual([
        'forbidden',
        `"${join(root, 'data.json')}" can't be read by the user that the server runs as.`,
      ])
    } finally {
      if (user === 0) process.seteuid?.(0)
    }
  })

  it('has no roots when none are given', async () => {
    expect(await code(paths().openFile('data.json', []))).toBe('forbidden')
    expect(await code(paths().openFile(join(base, 'rooted.json'), [root]))).toBe('forbidden')
  })
})

describe('folders', () => {
  it('finds one that exists; a hub id is none', async () => {
    expect(await paths().existingFolder('sub', [root])).toBe(join(root, 'sub'))
    expect(await paths().existingFolder('org/name', [root])).toBeNull()
    expect(await paths().existingFolder('org/name', [outside])).toBeNull()
    expect(await paths().existingFolder('data.json', [root])).toBeNull()
    expect(await code(paths().existingFolder('../outside', [root]))).toBe('forbidden')
    expect((await refusal(paths().existingFolder(outside, [root]))).message).toContain('MLX_TRAINING_MODEL_ROOTS')
  })

  it('takes an output folder that does not exist yet, resolved, and does not make it', async () => {
    await symlink('sub', join(root, 'link'))
    await symlink(join(outside, 'new'), join(root, 'escape'))
    expect(await paths().outputFolder('link/a/b', [root])).toBe(join(root, 'sub/a/b'))
    expect(await paths().existingFolder('sub/a', [root])).toBeNull()
    expect(await paths().outputFolder('sub', [root])).toBe(join(root, 'sub'))
    expect(await paths().outputFolder('later/x', [join(root, 'later')])).toBe(join(root, 'later/x'))
    expect(await code(paths().outputFolder('data.json/x', [root]))).toBe('invalid_path')
    expect(await code(paths().outputFolder('escape', [root]))).toBe('forbidden')
    expect(await code(paths().outputFolder('escape/deeper', [root]))).toBe('forbidden')
    expect((await refusal(paths().outputFolder('..', [root]))).message).toContain('MLX_TRAINING_OUTPUT_ROOTS')
  })
})

describe('no path escapes', () => {
  const names = [
    '..',
    '.',
    '',
    'sub',
    'root',
    'outside',
    'secret.json',
    'data.json',
    'out',
    'up',
    'deep',
    'odd',
    '~',
    ' ',
    'ä',
  ]

  it('whatever its parts and links', async () => {
    await symlink('../outside', join(root, 'out'))
    await symlink('..', join(root, 'up'))
    await symlink('../up/outside', join(root, 'sub', 'deep'))
    await symlink(join(outside, 'gone'), join(root, 'odd'))
    const path = fc.tuple(
      fc.constantFrom('', '/', 'ROOT/', 'OUTSIDE/'),
      fc.array(fc.constantFrom(...names), { maxLength: 7 }),
    )
    await fc.assert(
      fc.asyncProperty(path, async ([start, parts]) => {
        const given = start.replace('ROOT', root).replace('OUTSIDE', outside) + parts.join('/')
        try {
          expect(await contents(given)).toBe('inside')
        } catch (error) {
          if (!(error instanceof ServiceError)) throw error
          expect(error.message).not.toContain('secret.json"?')
        }
        for (const method of ['outputFolder', 'existingFolder'] as const) {
          const found = await paths()
            [method](given, [root])
            .catch((error: unknown) => {
              if (!(error instanceof ServiceError)) throw error
              return null
            })
          if (found !== null) expect(`${found}/`.startsWith(`${root}/`)).toBe(true)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('while files and folders are swapped for links to the outside', async () => {
    await mkdir(join(root, 'swap'))
    await writeFile(join(root, 'swap', 'secret.json'), 'inside')
    await writeFile(join(root, 'file.json'), 'inside')
    await symlink(outside, join(base, 'bad-folder'))
    await symlink(join(outside, 'secret.json'), join(base, 'bad-file'))
    let swapping = true
    const swap = (a: string, b: string) => {
      renameSync(a, join(base, 'held'))
      renameSync(b, a)
      renameSync(join(base, 'held'), b)
    }
    const swapper = (async () => {
      while (swapping) {
        swap(join(root, 'swap'), join(base, 'bad-folder'))
        swap(join(root, 'file.json'), join(base, 'bad-file'))
        await new Promise((turn) => setImmediate(turn))
      }
    })()
    const seen = { opened: 0, refused: 0 }
    try {
      for (let i = 0; i < 400; i++) {
        for (const path of ['swap/secret.json', 'file.json']) {
          try {
            expect(await contents(path)).toBe('inside')
            seen.opened++
          } catch (error) {
            if (!(error instanceof ServiceError)) throw error
            seen.refused++
          }
        }
      }
    } finally {
      swapping = false
      await swapper
    }
    expect(seen.refused).toBeGreaterThan(0)
  })
})

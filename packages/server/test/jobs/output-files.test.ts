import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { claimFolder, clearFolder, MARK } from '../../src/jobs/output-files.ts'
import { writeRun } from './output-files.ts'

const JOB = { id: 'job_1', name: 'a' }
let root: string
let folder: string
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'output-')))
  folder = join(root, 'outputs', 'a')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const put = (path: string, content = 'mine') => {
  mkdirSync(dirname(join(folder, path)), { recursive: true })
  writeFileSync(join(folder, path), content)
}

describe('an output folder', () => {
  it.each([false, true])('goes with all that a run has made in it (full fine-tuning: %s)', async (full) => {
    await writeRun(folder, JOB, [4, 8], full)
    put('.adapter_config.json.tmp')
    put('.verifying')
    put('checkpoints/.step-00000012.tmp/tokenizer.json')
    put('checkpoints/step-00000008/.state.json.tmp')
    expect(await clearFolder(folder, JOB.id)).toEqual({ kept: [], folder: 'removed' })
    expect(existsSync(folder)).toBe(false)
    expect(existsSync(dirname(folder))).toBe(true)
    expect(await clearFolder(folder, JOB.id)).toEqual({ kept: [], folder: 'missing' })
  })

  it('that was there before stays, empty', async () => {
    mkdirSync(folder, { recursive: true })
    await writeRun(folder, JOB, [4])
    expect(await clearFolder(folder, JOB.id)).toEqual({ kept: [], folder: 'kept' })
    expect(readdirSync(folder)).toEqual([])
  })

  it('keeps what the run did not make, wherever it is', async () => {
    await writeRun(folder, JOB, [4])
    const foreign = ['README.md', 'checkpoints/notes.txt', 'checkpoints/step-00000004/mine.txt', 'tokenizer.json']
    for (const path of [...foreign, 'deep/er/x', 'checkpoints/step-4/x']) put(path)
    const { kept, folder: state } = await clearFolder(folder, JOB.id)
    expect(kept).toEqual([...foreign, 'deep/er/x', 'checkpoints/step-4/x'].sort())
    expect(state).toBe('kept')
    for (const path of kept) expect(readFileSync(join(folder, path), 'utf8')).toBe('mine')
    expect(existsSync(join(folder, MARK))).toBe(false)
    expect(existsSync(join(folder, 'adapters.safetensors'))).toBe(false)
  })

  it.each([
    ['without a mark', () => rmSync(join(folder, MARK))],
    ['with the mark of another job', () => put(MARK, JSON.stringify({ job_id: 'job_2' }))],
    ['with a mark that is torn', () => put(MARK, '{"job_id": "jo')],
    [
      'with a mark that is a link to one',
      () => {
        writeFileSync(join(root, 'mark'), readFileSync(join(folder, MARK)))
        rmSync(join(folder, MARK))
        symlinkSync(join(root, 'mark'), join(folder, MARK))
      },
    ],
  ])('%s is not touched', async (_, change) => {
    await writeRun(folder, JOB, [4])
    change()
    expect(await clearFolder(folder, JOB.id)).toEqual({ kept: [], folder: 'not_ours' })
    expect(existsSync(join(folder, 'adapters.safetensors'))).toBe(true)
  })

  it('that a symlink leads to is not touched', async () => {
    const elsewhere = join(root, 'elsewhere')
    await writeRun(elsewhere, JOB, [4])
    mkdirSync(dirname(folder), { recursive: true })
    symlinkSync(elsewhere, folder)
    expect(await clearFolder(folder, JOB.id)).toEqual({ kept: [], folder: 'not_ours' })
    expect(existsSync(join(elsewhere, 'adapters.safetensors'))).toBe(true)
  })

  it('loses nothing that its symlinks and manifests point at', async () => {
    await writeRun(folder, JOB, [4])
    const treasure = join(root, 'treasure')
    await writeRun(treasure, { id: 'job_2', name: 'b' }, [4])
    const before = readdirSync(treasure, { recursive: true }).sort()
    const checkpoints = join(folder, 'checkpoints')
    symlinkSync(join(treasure, 'checkpoints', 'step-00000004'), join(checkpoints, 'step-00000009'))
    rmSync(join(folder, 'adapters.safetensors'))
    symlinkSync(join(treasure, 'adapters.safetensors'), join(folder, 'adapters.safetensors'))
    const files = {
      '../../../treasure/adapters.safetensors': {},
      [join(treasure, 'adapter_config.json')]: {},
      '..': {},
    }
    writeFileSync(join(checkpoints, 'step-00000004', 'state.json'), JSON.stringify({ files }))
    const { kept } = await clearFolder(folder, JOB.id)
    expect(kept).toEqual(['adapters.safetensors', 'checkpoints/step-00000009'])
    expect(readdirSync(treasure, { recursive: true }).sort()).toEqual(before)
  })

  it('keeps a link where checkpoints should be', async () => {
    await writeRun(folder, JOB, [])
    const elsewhere = join(root, 'elsewhere')
    await writeRun(elsewhere, { id: 'job_2', name: 'b' }, [4])
    symlinkSync(join(elsewhere, 'checkpoints'), join(folder, 'checkpoints'))
    expect(await clearFolder(folder, JOB.id)).toEqual({ kept: ['checkpoints'], folder: 'kept' })
    expect(existsSync(join(elsewhere, 'checkpoints', 'step-00000004', 'state.json'))).toBe(true)
  })

  it('is taken over by the next job, and only kept for its own', async () => {
    await claimFolder(folder, JOB)
    const mark = readFileSync(join(folder, MARK), 'utf8')
    await claimFolder(folder, JOB)
    expect(readFileSync(join(folder, MARK), 'utf8')).toBe(mark)
    await claimFolder(folder, { id: 'job_2', name: 'b' })
    expect(await clearFolder(folder, JOB.id)).toMatchObject({ folder: 'not_ours' })
    expect(await clearFolder(folder, 'job_2')).toMatchObject({ folder: 'removed' })
  })

  it('whatever of a removal was done before a kill, the next one does the rest', async () => {
    await writeRun(folder, JOB, [4, 8], true)
    const all = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    // The mark goes last, and the manifests of a checkpoint after its other files.
    const early = all.filter((path) => !/mlx-training|checkpoints$|step-\d+$|state\.json/.test(path))
    await fc.assert(
      fc.asyncProperty(fc.subarray(early), async (gone) => {
        await writeRun(folder, JOB, [4, 8], true)
        for (const path of gone) rmSync(join(folder, path))
        put('foreign')
        expect(await clearFolder(folder, JOB.id)).toEqual({ kept: ['foreign'], folder: 'kept' })
      }),
      { numRuns: 30 },
    )
  })
})

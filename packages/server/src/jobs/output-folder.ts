import { readdir, realpath } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { ServiceError, type StartRequest } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { ClientPaths } from '../files/port.ts'
import { isUnder } from '../files/under.ts'
import type { Job, JobService } from './port.ts'
import { atField } from './resolve.ts'

interface Deps {
  config: Pick<Config, 'roots' | 'home'>
  paths: ClientPaths
  jobs: Pick<JobService, 'list'>
}

/** Where a run's results go. ServiceErrors at output_dir: a path that may not be used, a folder that is another's or holds
 *  something already. */
export async function outputFolder(request: StartRequest, { config, paths, jobs }: Deps): Promise<string> {
  const { experiment_name: name, output_dir = join('outputs', request.experiment_name) } = request
  const folder = await atField('output_dir', () => paths.outputFolder(output_dir, config.roots.outputs))
  const all = await jobs.list()
  await refuseReserved(folder, config, all)
  const content = await namesIn(folder)
  const owner = all.find((job) => job.plan.outputDir === folder)
  if (content.length === 0 || owner?.name === name) return folder
  const leftover = !owner && (await namesIn(join(folder, 'checkpoints'))).some((entry) => entry.startsWith('step-'))
  if (leftover && request.overwrite) return folder
  const whose = owner ? `holds the results of experiment "${owner.name}"` : 'is not empty'
  const remedy = leftover ? 'set overwrite to replace the training run in it' : 'empty it'
  throw new ServiceError(
    'conflict',
    `The output folder ${folder} ${whose}: ${owner ? '' : `${remedy}, or `}give another output_dir`,
    { errors: [{ field: 'output_dir', message: owner ? `belongs to experiment "${owner.name}"` : 'is not empty' }] },
  )
}

/** Not where programs keep their own things (.git, .ssh, this server's home), nor in or around another experiment's folder. */
async function refuseReserved(folder: string, { roots, home }: Deps['config'], jobs: Job[]): Promise<void> {
  const refuse = (why: string) => {
    const errors = [{ field: 'output_dir', message: why }]
    throw new ServiceError('invalid_path', `The output folder ${folder} ${why}: give another output_dir`, { errors })
  }
  if (isUnder(await realpath(home).catch(() => home), folder)) refuse("is in the server's own folder")
  const allowed = await Promise.all(roots.outputs.map((root) => realpath(root).catch(() => root)))
  const below = allowed.filter((root) => isUnder(root, folder)).map((root) => relative(root, folder))
  if (below.every((path) => path.split(sep).some((part) => part.startsWith('.')))) refuse('is in a hidden folder')
  const other = jobs.find(
    ({ plan: { outputDir } }) => folder !== outputDir && (isUnder(outputDir, folder) || isUnder(folder, outputDir)),
  )
  if (other) refuse(`overlaps with that of experiment "${other.name}"`)
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}

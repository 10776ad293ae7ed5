import type { FileHandle } from 'node:fs/promises'

/** The only way from a path that a client gave to a file. Roots are absolute; symlinks are resolved before the check. */
export interface ClientPaths {
  /** Opens a regular file for reading whose real path lies under a root. The caller closes it.
   *  ServiceError: 404 missing; 403 outside the roots (says which are allowed, and the `setting` that adds
   *  one, MLX_TRAINING_DATASET_ROOTS when left out); 400 a folder or device. */
  openFile(
    path: string,
    roots: readonly string[],
    setting?: string,
  ): Promise<{ handle: FileHandle; realPath: string; size: number }>
  /** A folder that exists, under a root; null when there is none at that path. */
  existingFolder(path: string, roots: readonly string[]): Promise<string | null>
  /** A folder that may not exist yet: its nearest existing ancestor's real path lies under a root. Not created. */
  outputFolder(path: string, roots: readonly string[]): Promise<string>
}

# Copies the libraries of the torch package that the program needs, and those that they need, into one folder.
# Set by SpectraceInstall.cmake: program, site (the folder of Python packages), torch_lib, library_folder.
# Those that lie elsewhere (the C library, MPI, HDF5) are the system's business.
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${program}" RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR not_found
  CONFLICTING_DEPENDENCIES_PREFIX conflict DIRECTORIES "${torch_lib}")
file(REAL_PATH "${site}" site)
set(copied 0)
foreach(library IN LISTS found conflict_FILENAMES)
  if(NOT IS_ABSOLUTE "${library}")  # of two places: the torch package's own is the one that libtorch loads
    foreach(place IN LISTS conflict_${library})
      string(FIND "${place}" "${site}/" at)
      if(at EQUAL 0)
        set(library "${place}")
      endif()
    endforeach()
  endif()
  get_filename_component(name "${library}" NAME)
  get_filename_component(folder "${library}" DIRECTORY)
  file(REAL_PATH "${folder}" folder)
  string(FIND "${folder}/" "${site}/" at)
  if(at EQUAL 0)
    # Under the name that it is loaded by, whatever the file behind it is called.
    file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/${library_folder}" TYPE SHARED_LIBRARY FOLLOW_SYMLINK_CHAIN FILES "${folder}/${name}")
    math(EXPR copied "${copied} + 1")
  endif()
endforeach()
if(copied EQUAL 0)
  message(FATAL_ERROR "no library of ${site} is among what ${program} needs (${found}; not found: ${not_found})")
endif()

# libskep.so: all layers, of which only the C ABI is visible; and what `cmake --install` puts where.

set(layers "")
foreach(layer IN ITEMS memory machine storage maps btf prog object syscall capi)
  if(TARGET skep_${layer})
    list(APPEND layers $<TARGET_OBJECTS:skep_${layer}>)
  endif()
endforeach()

add_library(skep_shared SHARED ${layers})
add_library(skep::skep ALIAS skep_shared)
set_target_properties(skep_shared PROPERTIES
  OUTPUT_NAME skep
  EXPORT_NAME skep
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}
  LINKER_LANGUAGE CXX
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/libskep.map)
target_include_directories(skep_shared PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(skep_shared PRIVATE $<BUILD_INTERFACE:skep_options>)
target_link_options(skep_shared PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/libskep.map -Wl,-z,nodelete)

install(TARGETS skep_shared EXPORT skep LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/skep DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(program IN ITEMS skep_preload skep_cli)
  if(TARGET ${program})
    install(TARGETS ${program}
      RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
      LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endforeach()

include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/skep)
install(EXPORT skep NAMESPACE skep:: FILE skep-config.cmake DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/skep-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/skep-config-version.cmake DESTINATION ${package})
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${PROJECT_SOURCE_DIR}/cmake/skep.pc.in ${CMAKE_CURRENT_BINARY_DIR}/skep.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/skep.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
